#include "protocol/tar.h"

#include "base/mem.h"
#include "base/str.h"

#include <string.h>

#define META_MAX ((size_t)1 << 20) /* of a name or a set of pax records */
#define NAME_FIELD 100
#define PREFIX_AT 345
#define PREFIX_FIELD 155

/* Where the fields of a header are. */
enum {
	AT_MODE = 100,
	AT_UID = 108,
	AT_GID = 116,
	AT_SIZE = 124,
	AT_MTIME = 136,
	AT_SUM = 148,
	AT_TYPE = 156,
	AT_LINK = 157,
	AT_MAGIC = 257
};

/* --- writing --- */

/* Octal digits and a NUL; what does not fit in base 256, as GNU tar has it. */
static void put_number(char *field, size_t size, uint64_t number)
{
	if (number >> (3 * (size - 1)) == 0) {
		for (size_t i = size - 1; i-- > 0; number >>= 3)
			field[i] = (char)('0' + (number & 7));
		return;
	}
	for (size_t i = size; i-- > 1; number >>= 8)
		field[i] = (char)(number & 0xff);
	field[0] = (char)0x80;
}

static unsigned checksum(const char *block)
{
	unsigned sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= AT_SUM && i < AT_SUM + 8 ? ' ' : (unsigned char)block[i];
	return sum;
}

static void write_header(struct buf *out, char type, const char *name, const char *link, const struct tar_entry *entry)
{
	char block[TAR_BLOCK] = {0};

	memcpy(block, name, strnlen(name, NAME_FIELD));
	put_number(block + AT_MODE, 8, entry->mode & 07777);
	put_number(block + AT_UID, 8, 0);
	put_number(block + AT_GID, 8, 0);
	put_number(block + AT_SIZE, 12, entry->size);
	put_number(block + AT_MTIME, 12, entry->mtime > 0 ? (uint64_t)entry->mtime : 0);
	block[AT_TYPE] = type;
	memcpy(block + AT_LINK, link, strnlen(link, NAME_FIELD));
	memcpy(block + AT_MAGIC, "ustar  ", 8);
	put_number(block + AT_SUM, 7, checksum(block));
	block[AT_SUM + 7] = ' ';
	buf_append(out, block, sizeof block);
}

static void write_zeros(struct buf *out, size_t n)
{
	static const char zeros[2 * TAR_BLOCK];

	buf_append(out, zeros, n);
}

/* A name that its field cannot hold stands before the entry as data of one of its own. */
static void write_long(struct buf *out, char type, const char *text)
{
	size_t size = strlen(text) + 1;

	if (size <= NAME_FIELD)
		return;
	write_header(out, type, "././@LongLink", "", &(struct tar_entry){.size = size});
	buf_append(out, text, size);
	write_zeros(out, tar_padding(size));
}

void tar_write_entry(struct buf *out, const struct tar_entry *entry)
{
	static const char types[] = {
		[TAR_FILE] = '0', [TAR_DIRECTORY] = '5', [TAR_SYMLINK] = '2', [TAR_HARDLINK] = '1', [TAR_OTHER] = '6'};
	const char *link = entry->link ? entry->link : "";

	write_long(out, 'K', link);
	write_long(out, 'L', entry->name);
	write_header(out, types[entry->type], entry->name, link, entry);
}

size_t tar_padding(uint64_t size)
{
	return (size_t)(-size % TAR_BLOCK);
}

void tar_write_end(struct buf *out)
{
	write_zeros(out, (size_t)2 * TAR_BLOCK);
}

/* --- reading --- */

void tar_init(struct tar *t, const struct tar_events *events)
{
	*t = (struct tar){.events = *events, .meta = BUF_INIT(META_MAX), .pax_size = -1};
}

void tar_deinit(struct tar *t)
{
	buf_deinit(&t->meta);
	free(t->long_name);
	free(t->long_link);
	*t = (struct tar){0};
}

static int set_broken(const char *what, struct err *err)
{
	return err_set(err, ERR_PROTOCOL, "The archive is broken: %s", what);
}

static int get_number(const char *field, size_t size, uint64_t *ret, struct err *err)
{
	uint64_t number = 0;
	size_t i = 0;

	if ((unsigned char)field[0] == 0x80) {
		for (i = 1; i < size; i++) {
			if (number >> 55)
				return set_broken("a number is too big", err);
			number = number << 8 | (unsigned char)field[i];
		}
		*ret = number;
		return 0;
	}
	while (i < size && field[i] == ' ')
		i++;
	for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
		number = number << 3 | (uint64_t)(field[i] - '0');
	if (i < size && field[i] != ' ' && field[i] != '\0')
		return set_broken("a number is none", err);
	*ret = number;
	return 0;
}

static char *text_of(const char *field, size_t size)
{
	return xstrndup(field, strnlen(field, size));
}

static char *name_of(const struct tar *t)
{
	bool is_posix = memcmp(t->block + AT_MAGIC, "ustar\0", 6) == 0;

	if (t->long_name)
		return xstrdup(t->long_name);
	if (!is_posix || !t->block[PREFIX_AT])
		return text_of(t->block, NAME_FIELD);
	cleanup_free char *prefix = text_of(t->block + PREFIX_AT, PREFIX_FIELD);
	cleanup_free char *name = text_of(t->block, NAME_FIELD);
	return xasprintf("%s/%s", prefix, name);
}

static enum tar_type type_of(char type, const char *name)
{
	switch (type) {
	case '0':
	case '7':
	case '\0':
		return type == '\0' && str_ends_with(name, "/") ? TAR_DIRECTORY : TAR_FILE;
	case '1':
		return TAR_HARDLINK;
	case '2':
		return TAR_SYMLINK;
	case '5':
		return TAR_DIRECTORY;
	default:
		return TAR_OTHER;
	}
}

static int begin_entry(struct tar *t, uint64_t size, struct err *err)
{
	cleanup_free char *name = name_of(t);
	cleanup_free char *link = t->long_link ? xstrdup(t->long_link) : text_of(t->block + AT_LINK, NAME_FIELD);
	uint64_t mode, mtime;

	if (get_number(t->block + AT_MODE, 8, &mode, err) < 0 || get_number(t->block + AT_MTIME, 12, &mtime, err) < 0)
		return -1;
	struct tar_entry entry = {
		.type = type_of(t->block[AT_TYPE], name),
		.name = name,
		.link = link,
		.mode = (unsigned)mode & 07777,
		.size = t->pax_size >= 0 ? (uint64_t)t->pax_size : size,
		.mtime = (int64_t)mtime,
	};
	/* Links have no data whatever the field says. */
	if (entry.type == TAR_SYMLINK || entry.type == TAR_HARDLINK || entry.type == TAR_DIRECTORY)
		entry.size = 0;
	free(steal(&t->long_name));
	free(steal(&t->long_link));
	t->pax_size = -1;
	t->left = entry.size;
	t->padding = tar_padding(entry.size);
	t->state = TAR_AT_DATA;
	return t->events.on_entry(t->events.arg, &entry, err);
}

static bool is_zero(const char *block)
{
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		if (block[i])
			return false;
	}
	return true;
}

static int take_header(struct tar *t, struct err *err)
{
	uint64_t sum, size;
	char type = t->block[AT_TYPE];

	if (is_zero(t->block)) {
		t->state = TAR_AT_END;
		return 0;
	}
	if (get_number(t->block + AT_SUM, 8, &sum, err) < 0 || get_number(t->block + AT_SIZE, 12, &size, err) < 0)
		return -1;
	if (sum != checksum(t->block))
		return set_broken("a header's checksum is wrong", err);
	if (!strchr("LKxg", type) || !type)
		return begin_entry(t, size, err);
	if (size > META_MAX)
		return set_broken("a name is too long", err);
	buf_reset(&t->meta);
	t->meta_type = type;
	t->left = size;
	t->padding = tar_padding(size);
	t->state = TAR_AT_META;
	return 0;
}

static void replace(char **place, const char *text, size_t len)
{
	free(*place);
	*place = xstrndup(text, len);
}

static bool is_key(const char *record, size_t len, const char *key)
{
	return len > strlen(key) && memcmp(record, key, strlen(key)) == 0;
}

/* "<length> <key>=<value>\n", where the length counts all of it. */
static int take_pax_record(struct tar *t, const char *record, size_t len)
{
	if (is_key(record, len, "path="))
		replace(&t->long_name, record + 5, len - 5);
	else if (is_key(record, len, "linkpath="))
		replace(&t->long_link, record + 9, len - 9);
	else if (is_key(record, len, "size=")) {
		t->pax_size = 0;
		for (size_t i = 5; i < len; i++) {
			if (record[i] < '0' || record[i] > '9' || t->pax_size > INT64_MAX / 16)
				return -1;
			t->pax_size = t->pax_size * 10 + (record[i] - '0');
		}
	}
	return 0;
}

static int take_pax(struct tar *t, struct err *err)
{
	const char *at = t->meta.data, *end = at + t->meta.len;

	while (at < end) {
		const char *digits = at;
		size_t len = 0;

		while (at < end && *at >= '0' && *at <= '9' && len <= META_MAX)
			len = len * 10 + (size_t)(*at++ - '0');
		if (at == end || *at != ' ' || len > (size_t)(end - digits) || digits + len <= at + 1 || digits[len - 1] != '\n')
			return set_broken("a pax record makes no sense", err);
		at++;
		if (take_pax_record(t, at, (size_t)(digits + len - 1 - at)) < 0)
			return set_broken("a pax record makes no sense", err);
		at = digits + len;
	}
	return 0;
}

static int take_meta(struct tar *t, struct err *err)
{
	if (t->meta_type == 'L' || t->meta_type == 'K') {
		replace(t->meta_type == 'L' ? &t->long_name : &t->long_link, t->meta.data ? t->meta.data : "",
			t->meta.data ? strnlen(t->meta.data, t->meta.len) : 0);
		return 0;
	}
	/* Global records name no file of this archive. */
	return t->meta_type == 'x' && t->meta.data ? take_pax(t, err) : 0;
}

/* As much of the header as there is. */
static int feed_header(struct tar *t, const char **bytes, size_t *n, struct err *err)
{
	size_t k = TAR_BLOCK - t->held < *n ? TAR_BLOCK - t->held : *n;

	memcpy(t->block + t->held, *bytes, k);
	t->held += k;
	*bytes += k;
	*n -= k;
	if (t->held < TAR_BLOCK)
		return 0;
	t->held = 0;
	return take_header(t, err);
}

static int feed_content(struct tar *t, const char **bytes, size_t *n, struct err *err)
{
	size_t k = t->left < *n ? (size_t)t->left : *n;
	const char *piece = *bytes;

	t->left -= k;
	*bytes += k;
	*n -= k;
	if (t->state == TAR_AT_META)
		return buf_append(&t->meta, piece, k);
	if (t->state == TAR_AT_DATA)
		return t->events.on_data(t->events.arg, piece, k, err);
	return 0;
}

static int end_content(struct tar *t, struct err *err)
{
	int rc = 0;

	if (t->state == TAR_AT_PADDING) {
		t->state = TAR_AT_HEADER;
		return 0;
	}
	if (t->state == TAR_AT_META)
		rc = take_meta(t, err);
	else
		rc = t->events.on_end(t->events.arg, err);
	t->state = TAR_AT_PADDING;
	t->left = t->padding;
	return rc;
}

int tar_feed(struct tar *t, const void *data, size_t n, struct err *err)
{
	const char *bytes = data;
	int rc = 0;

	while (rc == 0 && t->state != TAR_AT_END) {
		if (t->state != TAR_AT_HEADER && t->left == 0)
			rc = end_content(t, err);
		else if (n == 0)
			return 0;
		else if (t->state == TAR_AT_HEADER)
			rc = feed_header(t, &bytes, &n, err);
		else
			rc = feed_content(t, &bytes, &n, err);
	}
	return rc;
}

int tar_finish(const struct tar *t, struct err *err)
{
	return t->state == TAR_AT_END ? 0 : set_broken("its end is missing", err);
}
