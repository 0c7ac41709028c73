#include "protocol/json_write.h"

#include "base/mem.h"
#include "protocol/json_block.h"
#include "protocol/json_number.h"

#include <string.h>

/* How a byte is written: as itself (extra 0) or as text of 1 + extra bytes. */
struct escape {
	char text[7];
	uint8_t extra;
};

#define SHORT(c)                                                                                                                 \
	{                                                                                                                        \
		"\\" c, 1                                                                                                        \
	}
#define LONG(hex)                                                                                                                \
	{                                                                                                                        \
		"\\u00" hex, 5                                                                                                   \
	}

static const struct escape escapes[256] = {
	LONG("00"), LONG("01"), LONG("02"), LONG("03"), LONG("04"),          LONG("05"),           LONG("06"),
	LONG("07"), SHORT("b"), SHORT("t"), SHORT("n"), LONG("0b"),          SHORT("f"),           SHORT("r"),
	LONG("0e"), LONG("0f"), LONG("10"), LONG("11"), LONG("12"),          LONG("13"),           LONG("14"),
	LONG("15"), LONG("16"), LONG("17"), LONG("18"), LONG("19"),          LONG("1a"),           LONG("1b"),
	LONG("1c"), LONG("1d"), LONG("1e"), LONG("1f"), ['"'] = SHORT("\""), ['\\'] = SHORT("\\"),
};

/* U+2028 and U+2029 are E2 80 A8 and E2 80 A9: six bytes for three. */
#define SEPARATOR_LEN 3
#define SEPARATOR_EXTRA 3

static inline bool is_separator(const char *s, const char *end)
{
	return end - s >= SEPARATOR_LEN && s[0] == '\xE2' && s[1] == '\x80' && (s[2] & '\xFE') == '\xA8';
}

/* Where they start in the block at s; looks at the two bytes behind it. */
static inline json_block separators(const char *s)
{
	return (json_block)((json_block_load(s) == 0xE2) & (json_block_load(s + 1) == 0x80) &
			    ((json_block_load(s + 2) & 0xFE) == 0xA8));
}

static inline char *put_separator(char *out, const char *s)
{
	memcpy(out, s[2] == '\xA8' ? "\\u2028" : "\\u2029", 6);
	return out + 6;
}

/* What each byte of the block at s gets longer by. */
static inline json_block block_extra(const char *s)
{
	json_block b = json_block_load(s);
	json_block is_long = (json_block)((b < 0x20) & ((b < '\b') | (b > '\r') | (b == '\v')));

	return (json_block_special(b) & 1) + (is_long & 4) + (separators(s) & SEPARATOR_EXTRA);
}

size_t json_escaped_size(const char *text, size_t len)
{
	const char *s = text, *end = text + len;
	size_t size = len;

	while (end - s >= JSON_BLOCK + SEPARATOR_LEN) {
		json_block sums = {0};

		/* A byte of the sums holds that of fifty blocks, none of which adds more than 5. */
		for (int i = 0; i < 50 && end - s >= JSON_BLOCK + SEPARATOR_LEN; i++, s += JSON_BLOCK)
			sums += block_extra(s);
		for (int i = 0; i < JSON_BLOCK; i++)
			size += sums[i];
	}
	for (; s < end; s++)
		size += is_separator(s, end) ? SEPARATOR_EXTRA : escapes[(unsigned char)*s].extra;
	return size;
}

/*
 * One block; returns the end of what was written. Each byte is stored as eight, so that nothing depends on what it is. *s moves on:
 * beyond the block when a separator reaches over its end.
 */
static char *escape_block(char *out, const char **s)
{
	const char *stop = *s + JSON_BLOCK;
	bool has_separators = json_block_any(separators(*s));

	while (*s < stop) {
		if (has_separators && is_separator(*s, stop + SEPARATOR_LEN)) {
			out = put_separator(out, *s);
			*s += SEPARATOR_LEN;
			continue;
		}
		unsigned char c = (unsigned char)*(*s)++;
		const struct escape *escape = &escapes[c];

		memcpy(out, escape, sizeof(*escape));
		*out = escape->extra ? '\\' : (char)c;
		out += 1 + escape->extra;
	}
	return out;
}

/* Into out, which has room for all of it and no more. */
static void escape_into(char *out, const char *s, const char *end)
{
	/* Behind each block at least as much input follows as is stored too far. */
	while (end - s >= 2 * JSON_BLOCK) {
		json_block b = json_block_load(s);

		if (json_block_any((json_block)(json_block_special(b) | (json_block)(b == 0xE2)))) {
			out = escape_block(out, &s);
			continue;
		}
		memcpy(out, s, JSON_BLOCK);
		out += JSON_BLOCK;
		s += JSON_BLOCK;
	}
	while (s < end) {
		if (is_separator(s, end)) {
			out = put_separator(out, s);
			s += SEPARATOR_LEN;
			continue;
		}
		const struct escape *escape = &escapes[(unsigned char)*s];

		memcpy(out, escape->extra ? escape->text : s, 1u + escape->extra);
		out += 1 + escape->extra;
		s++;
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
	size_t size = json_escaped_size(text, len);
	char *room = buf_reserve(out, size + 2);

	if (!room)
		return -1;
	room[0] = '"';
	escape_into(room + 1, text, text + len);
	room[size + 1] = '"';
	buf_added(out, size + 2);
	return 0;
}

/* An open array or object: where its writing stands. */
struct level {
	const json_t *container;
	void *member; /* the next one; of objects */
	size_t index; /* the next one; of arrays */
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
