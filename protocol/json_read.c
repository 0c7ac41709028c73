#include "protocol/json_read.h"

#include "base/buf.h"
#include "protocol/json_number.h"
#include "protocol/json_walk.h"

struct reader {
	struct json_walk walk;
	struct buf key;     /* of the member whose value comes next, unescaped */
	struct buf scratch; /* strings that hold escapes */
	json_t *root;       /* an array whose only element is the value */
	json_t *open[JSON_READ_DEPTH_MAX + 1]; /* borrowed: root, then the open arrays and objects */
};

/* What stands between the quotes of the token; borrowed from the text or the buffer. */
static const char *token_text(const struct json_walk *w, struct buf *unescaped, size_t *ret_len)
{
	const char *text = w->text + w->start + 1;
	size_t len = w->end - w->start - 2;

	if (w->escaped) {
		buf_reset(unescaped);
		json_unescape(text, len, unescaped);
		text = unescaped->data;
		len = unescaped->len;
	}
	*ret_len = len;
	return text;
}

static void take_key(struct reader *r)
{
	size_t len;
	const char *text = token_text(&r->walk, &r->scratch, &len);

	buf_reset(&r->key);
	buf_append(&r->key, text, len);
}

static json_t *scalar(struct reader *r)
{
	const struct json_walk *w = &r->walk;
	const char *text;
	size_t len;

	switch (w->kind) {
	case JSON_KIND_STRING:
		text = token_text(w, &r->scratch, &len);
		return json_stringn_nocheck(text, len);
	case JSON_KIND_NUMBER:
		return json_number_read(w->text + w->start, w->end - w->start);
	case JSON_KIND_TRUE:
		return json_true();
	case JSON_KIND_FALSE:
		return json_false();
	case JSON_KIND_NULL:
	case JSON_KIND_NONE:
	case JSON_KIND_ARRAY:
	case JSON_KIND_OBJECT:
		break;
	}
	return json_null();
}

/* Puts a new value, which is taken over, into the innermost open container. */
static void place(struct reader *r, size_t depth, json_t *value)
{
	json_t *parent = r->open[depth];

	if (!json_is_object(parent))
		json_array_append_new(parent, value);
	else
		json_object_setn_new_nocheck(parent, r->key.data, r->key.len, value);
}

static int read_value(struct reader *r, struct err *err)
{
	struct json_walk *w = &r->walk;

	for (;;) {
		switch (json_walk_next(w)) {
		case JSON_TOKEN_KEY:
			take_key(r);
			break;
		case JSON_TOKEN_VALUE:
			place(r, w->depth, scalar(r));
			break;
		case JSON_TOKEN_BEGIN:
			if (w->depth > JSON_READ_DEPTH_MAX)
				return err_set(err, ERR_INVALID, "nested more than %d levels deep", JSON_READ_DEPTH_MAX);
			r->open[w->depth] = w->kind == JSON_KIND_OBJECT ? json_object() : json_array();
			place(r, w->depth - 1, r->open[w->depth]);
			break;
		case JSON_TOKEN_END:
			break;
		case JSON_TOKEN_DONE:
			return 0;
		case JSON_TOKEN_ERROR:
			return json_walk_fail(w, err);
		}
	}
}

int json_read(const char *text, size_t len, json_t **ret, struct err *err)
{
	struct reader r = {.key = BUF_INIT(BUF_UNBOUNDED), .scratch = BUF_INIT(BUF_UNBOUNDED)};
	int rc;

	json_walk_init(&r.walk, text, len);
	r.root = r.open[0] = json_array();
	rc = read_value(&r, err);
	if (rc == 0)
		*ret = json_incref(json_array_get(r.root, 0));
	json_decref(r.root);
	buf_wipe(&r.key);
	buf_wipe(&r.scratch);
	json_walk_deinit(&r.walk);
	return rc;
}
