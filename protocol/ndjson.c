#include "protocol/ndjson.h"

#include "base/mem.h"

#include <string.h>

/* Memory above this is given back once it is not needed. */
#define KEEP_BYTES ((size_t)1 << 20)

static const char bom[3] = {'\xEF', '\xBB', '\xBF'};

void ndjson_init(struct ndjson *n, size_t line_max)
{
	*n = (struct ndjson){.line_max = line_max};
}

void ndjson_deinit(struct ndjson *n)
{
	if (!n)
		return;
	mem_wipe(n->data, n->len);
	free(n->data);
	*n = (struct ndjson){.line_max = n->line_max};
}

/* Moves the unused bytes to the start of a block of that size. By hand: realloc would leave a copy behind. */
static void move_to_block(struct ndjson *n, size_t cap)
{
	char *data = xmalloc(cap);

	if (n->data) {
		memcpy(data, n->data + n->start, n->len - n->start);
		mem_wipe(n->data, n->len);
		free(n->data);
	}
	n->data = data;
	n->cap = cap;
	n->len -= n->start;
	n->start = 0;
}

/* Drops bytes at the start, overwriting them. */
static void drop(struct ndjson *n, size_t count)
{
	mem_wipe(n->data + n->start, count);
	n->start += count;
	n->scanned = n->scanned > count ? n->scanned - count : 0;
	if (n->start == n->len)
		n->start = n->len = 0;
}

/* Forgets the line that was lent out. */
static void give_back(struct ndjson *n)
{
	if (!n->taken)
		return;
	drop(n, n->taken);
	n->taken = 0;
	if (n->cap > KEEP_BYTES && n->len - n->start <= KEEP_BYTES / 4)
		move_to_block(n, KEEP_BYTES);
}

char *ndjson_room(struct ndjson *n, size_t want)
{
	size_t used, cap;

	give_back(n);
	used = n->len - n->start;
	if (n->data && n->cap - n->len >= want)
		return n->data + n->len;
	if (n->data && n->cap >= used + want && n->start >= used) {
		/* The move is paid for by the lines that went before. */
		memcpy(n->data, n->data + n->start, used);
		mem_wipe(n->data + n->start, used);
		n->start = 0;
		n->len = used;
		return n->data + n->len;
	}
	/* Big lines: few steps, since each copies. Pages that are never touched cost nothing. */
	cap = n->cap * (n->cap >= KEEP_BYTES ? 4 : 2);
	if (cap > KEEP_BYTES && n->line_max < SIZE_MAX / 8 && cap > n->line_max + want)
		cap = n->line_max + want;
	if (cap < used + want)
		cap = used + want;
	move_to_block(n, cap);
	return n->data + n->len;
}

void ndjson_added(struct ndjson *n, size_t count)
{
	n->len += count;
}

/* Drops a byte order mark at the start of the stream. False: too few bytes to tell. */
static bool skip_bom(struct ndjson *n, bool at_end)
{
	size_t have = n->len - n->start, common = 0;

	if (n->started)
		return true;
	while (common < sizeof(bom) && common < have && n->data[n->start + common] == bom[common])
		common++;
	if (common == have && common < sizeof(bom) && !at_end)
		return false;
	n->started = true;
	if (common == sizeof(bom))
		drop(n, common);
	return true;
}

static bool is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (line[i] != ' ' && (line[i] < '\t' || line[i] > '\r'))
			return false;
	}
	return true;
}

/* Lends out the line of len bytes at the start, which takes up `taken` with its end. NEED_MORE: it is blank, and is passed by. */
static enum ndjson_event lend(struct ndjson *n, size_t len, size_t taken, char **ret_line, size_t *ret_len)
{
	char *line = n->data + n->start;
	bool overlong = n->overlong || len > n->line_max;

	n->taken = taken;
	n->scanned = 0;
	n->overlong = false;
	if (overlong) {
		*ret_line = line;
		*ret_len = len < NDJSON_HEAD_BYTES ? len : NDJSON_HEAD_BYTES;
		return NDJSON_OVERLONG;
	}
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (is_blank(line, len)) {
		give_back(n);
		return NDJSON_NEED_MORE;
	}
	*ret_line = line;
	*ret_len = len;
	return NDJSON_LINE;
}

/* No line ends in what is there: above the ceiling only the head of the line is kept. */
static void keep_unfinished(struct ndjson *n)
{
	size_t have = n->len - n->start;

	if (have > n->line_max)
		n->overlong = true;
	if (n->overlong && have > NDJSON_HEAD_BYTES) {
		mem_wipe(n->data + n->start + NDJSON_HEAD_BYTES, have - NDJSON_HEAD_BYTES);
		n->len = n->start + NDJSON_HEAD_BYTES;
		if (n->cap > KEEP_BYTES)
			move_to_block(n, KEEP_BYTES);
	}
	n->scanned = n->len - n->start;
}

enum ndjson_event ndjson_next(struct ndjson *n, char **ret_line, size_t *ret_len)
{
	give_back(n);
	if (!skip_bom(n, false))
		return NDJSON_NEED_MORE;
	while (n->len > n->start) {
		char *line = n->data + n->start;
		char *newline = memchr(line + n->scanned, '\n', n->len - n->start - n->scanned);

		if (!newline) {
			keep_unfinished(n);
			break;
		}
		size_t len = (size_t)(newline - line);
		enum ndjson_event event = lend(n, len, len + 1, ret_line, ret_len);

		if (event != NDJSON_NEED_MORE)
			return event;
	}
	return NDJSON_NEED_MORE;
}

enum ndjson_event ndjson_finish(struct ndjson *n, char **ret_line, size_t *ret_len)
{
	enum ndjson_event event = ndjson_next(n, ret_line, ret_len);

	if (event != NDJSON_NEED_MORE)
		return event;
	skip_bom(n, true);
	if (n->len == n->start)
		return NDJSON_NEED_MORE;
	return lend(n, n->len - n->start, n->len - n->start, ret_line, ret_len);
}
