#include "protocol/json_write.h"

#include "base/mem.h"
#include "protocol/json_block.h"
#include "protocol/json_number.h"

#include <string.h>

/* Whether a byte may need an escape: 0xE2 starts U+2028 and U+2029 (and much else). */
static inline bool is_marked(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == 0xE2;
}

/* The first byte at or after s that may need an escape, or end. */
static const char *find_marked(const char *s, const char *end)
{
	while ((size_t)(end - s) >= sizeof(json_block)) {
		json_block b = json_block_load(s);

		if (json_block_any((json_block)(json_block_special(b) | (json_block)(b == 0xE2))))
			break;
		s += sizeof(json_block);
	}
	while (s < end && !is_marked((unsigned char)*s))
		s++;
	return s;
}

/* The escape of the character at s, or NULL if it needs none. *ret_taken: the bytes of input; *ret_len: of the escape. */
static const char *escape_of(const char *s, const char *end, size_t *ret_taken, size_t *ret_len)
{
	static const char controls[32][7] = {
		"\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
		"\\b",     "\\t",     "\\n",     "\\u000b", "\\f",     "\\r",     "\\u000e", "\\u000f",
		"\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017",
		"\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
	};
	unsigned char c = (unsigned char)*s;

	*ret_taken = 1;
	if (c < 0x20) {
		*ret_len = controls[c][1] == 'u' ? 6 : 2;
		return controls[c];
	}
	if (c == '"' || c == '\\') {
		*ret_len = 2;
		return c == '"' ? "\\\"" : "\\\\";
	}
	if (end - s >= 3 && (memcmp(s, "\xE2\x80\xA8", 3) == 0 || memcmp(s, "\xE2\x80\xA9", 3) == 0)) {
		*ret_taken = 3;
		*ret_len = 6;
		return s[2] == '\xA8' ? "\\u2028" : "\\u2029";
	}
	return NULL;
}

size_t json_escaped_size(const char *text, size_t len)
{
	const char *s = text, *end = text + len;
	size_t size = len, taken, n;

	while ((s = find_marked(s, end)) < end) {
		if (escape_of(s, end, &taken, &n))
			size += n - taken;
		s += taken;
	}
	return size;
}

/* Into out, which has room for all of it. Returns the end. */
static char *escape_into(char *out, const char *s, const char *end)
{
	size_t taken, n;

	for (;;) {
		const char *marked = find_marked(s, end), *escape;

		memcpy(out, s, (size_t)(marked - s));
		out += marked - s;
		if (marked == end)
			return out;
		escape = escape_of(marked, end, &taken, &n);
		if (!escape) {
			escape = marked;
			n = taken;
		}
		memcpy(out, escape, n);
		out += n;
		s = marked + taken;
	}
}

int json_write_escaped(struct buf *out, const char *text, size_t len)
{
	size_t size = json_escaped_size(text, len);
	char *room = buf_reserve(out, size);

	if (!room)
		return -1;
	escape_into(room, text, text + len);
	buf_added(out, size);
	return 0;
}

int json_write_string(struct buf *out, const char *text, size_t len)
{
	size_t before = out->len;

	if (buf_append_char(out, '"') < 0 || json_write_escaped(out, text, len) < 0 || buf_append_char(out, '"') < 0) {
		buf_truncate(out, before);
		return -1;
	}
	return 0;
}

/* An open array or object: where its writing stands. */
struct level {
	const json_t *container;
	void *member;  /* the next one; of objects */
	size_t index;  /* the next one; of arrays */
	bool started;
};

struct writer {
	struct buf *out;
	struct level *levels; /* owned */
	size_t depth, room;
};

static int open_level(struct writer *w, const json_t *container)
{
	if (w->depth == w->room) {
		w->room = 2 * w->room + 16;
		w->levels = xrealloc(w->levels, w->room * sizeof(*w->levels));
	}
	/* The iterator is only read through, though jansson's type does not say so. */
	w->levels[w->depth++] = (struct level){
		.container = container,
		.member = json_is_object(container) ? json_object_iter((json_t *)(uintptr_t)container) : NULL,
	};
	return buf_append_char(w->out, json_is_object(container) ? '{' : '[');
}

/* One value; of an array or object only its bracket: the rest is a level of its own. */
static int write_one(struct writer *w, const json_t *value)
{
	char number[JSON_NUMBER_MAX];

	if (!value)
		return buf_append_str(w->out, "null");
	switch (json_typeof(value)) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		return open_level(w, value);
	case JSON_STRING:
		return json_write_string(w->out, json_string_value(value), json_string_length(value));
	case JSON_INTEGER:
		return buf_printf(w->out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	case JSON_REAL:
		return buf_append(w->out, number, json_number_write(number, json_real_value(value)));
	case JSON_TRUE:
		return buf_append_str(w->out, "true");
	case JSON_FALSE:
		return buf_append_str(w->out, "false");
	case JSON_NULL:
		break;
	}
	return buf_append_str(w->out, "null");
}

static int close_level(struct writer *w, bool is_object)
{
	w->depth--;
	return buf_append_char(w->out, is_object ? '}' : ']');
}

static int next_element(struct writer *w, struct level *level)
{
	if (level->index == json_array_size(level->container))
		return close_level(w, false);
	if (level->index > 0 && buf_append_char(w->out, ',') < 0)
		return -1;
	return write_one(w, json_array_get(level->container, level->index++));
}

static int next_member(struct writer *w, struct level *level)
{
	void *member = level->member;

	if (!member)
		return close_level(w, true);
	level->member = json_object_iter_next((json_t *)(uintptr_t)level->container, member);
	if (level->started && buf_append_char(w->out, ',') < 0)
		return -1;
	level->started = true;
	if (json_write_string(w->out, json_object_iter_key(member), json_object_iter_key_len(member)) < 0)
		return -1;
	return buf_append_char(w->out, ':') < 0 ? -1 : write_one(w, json_object_iter_value(member));
}

int json_write_value(struct buf *out, const json_t *value)
{
	struct writer w = {.out = out};
	size_t before = out->len;
	int rc = write_one(&w, value);

	while (rc == 0 && w.depth > 0) {
		struct level *level = &w.levels[w.depth - 1];

		rc = json_is_object(level->container) ? next_member(&w, level) : next_element(&w, level);
	}
	free(w.levels);
	if (rc < 0)
		buf_truncate(out, before);
	return rc;
}
