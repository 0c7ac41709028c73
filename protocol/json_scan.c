#include "protocol/json_scan.h"

#include "base/buf.h"
#include "base/mem.h"
#include "protocol/json_walk.h"

#include <string.h>

/* The wanted member whose key is the walk's token, or NULL. */
static struct json_member *find_member(const struct json_walk *w, struct json_member *members, size_t count)
{
	const char *name = w->text + w->start + 1;
	size_t len = w->end - w->start - 2;
	cleanup_buf struct buf plain = BUF_INIT(BUF_UNBOUNDED);

	if (w->escaped) {
		json_unescape(name, len, &plain);
		name = plain.data;
		len = plain.len;
	}
	for (size_t i = 0; i < count; i++) {
		if (strlen(members[i].key) == len && memcmp(members[i].key, name, len) == 0)
			return &members[i];
	}
	return NULL;
}

/* A number is whole only if something other than the text's end or garbage ends it. */
static bool is_whole(const struct json_walk *w)
{
	if (w->kind != JSON_KIND_NUMBER)
		return true;
	return w->pos < w->len && memchr(",} \t\r\n", w->text[w->pos], 6);
}

/* Follows one token of the outermost object; *open is the wanted member whose value is being read. */
static void follow_member(const struct json_walk *w, enum json_token token, struct json_member *members, size_t count,
			  struct json_member **open)
{
	if (token == JSON_TOKEN_KEY && w->depth == 1) {
		*open = find_member(w, members, count);
		if (*open)
			(*open)->value = (struct json_slice){.text = w->text + w->pos};
	} else if (*open && token == JSON_TOKEN_BEGIN && w->depth == 2) {
		(*open)->value.text = w->text + w->start;
	} else if (*open && w->depth == 1 && is_whole(w)) {
		struct json_slice *value = &(*open)->value;

		if (token == JSON_TOKEN_VALUE)
			value->text = w->text + w->start;
		value->len = (size_t)(w->text + w->end - value->text);
		value->kind = w->kind;
		*open = NULL;
	}
}

static int scan(struct json_walk *w, enum json_kind *ret_kind, struct json_member *members, size_t count, struct err *err)
{
	struct json_member *open = NULL;
	enum json_token token = json_walk_next(w);
	enum json_kind top = w->kind;

	while (token != JSON_TOKEN_DONE) {
		if (token == JSON_TOKEN_ERROR)
			return json_walk_fail(w, err);
		if (top == JSON_KIND_OBJECT)
			follow_member(w, token, members, count, &open);
		token = json_walk_next(w);
	}
	*ret_kind = top;
	return 0;
}

int json_scan(const char *text, size_t len, enum json_kind *ret_kind, struct json_member *members, size_t member_count,
	      struct err *err)
{
	struct json_walk walk;

	for (size_t i = 0; i < member_count; i++)
		members[i].value = (struct json_slice){.kind = JSON_KIND_NONE};
	json_walk_init(&walk, text, len);
	int rc = scan(&walk, ret_kind, members, member_count, err);
	json_walk_deinit(&walk);
	return rc;
}

char *json_slice_string(const struct json_slice *slice, size_t *ret_len)
{
	struct buf plain = BUF_INIT(BUF_UNBOUNDED);

	json_unescape(slice->text + 1, slice->len - 2, &plain);
	*ret_len = plain.len;
	return buf_steal(&plain);
}
