#include "protocol/tar.h"

#include "base/mem.h"
#include "tap.h"

#include <string.h>

static int on_entry(void *arg, const struct tar_entry *entry, struct err *err)
{
	static const char *const types[] = {"file", "dir", "symlink", "hardlink", "other"};

	return buf_printf(arg, "[%s %s>%s %o %llu %lld:", types[entry->type], entry->name, entry->link, entry->mode,
			  (unsigned long long)entry->size, (long long)entry->mtime);
}

static int on_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	CHECK(n > 0);
	return buf_append(arg, bytes, n);
}

static int on_end(void *arg, struct err *err)
{
	return buf_append_str(arg, "]");
}

/* What the archive says, fed in pieces of that size; "…!" and the error if it is broken. Owned. */
static char *play(const struct buf *archive, size_t step)
{
	struct buf log = BUF_INIT(BUF_UNBOUNDED);
	struct tar_events events = {on_entry, on_data, on_end, &log};
	struct tar tar;
	cleanup_err struct err err = ERR_INIT;
	int rc = 0;

	buf_append_str(&log, "");
	tar_init(&tar, &events);
	for (size_t at = 0; rc == 0 && at < archive->len; at += step)
		rc = tar_feed(&tar, archive->data + at, step < archive->len - at ? step : archive->len - at, &err);
	if (rc == 0)
		rc = tar_finish(&tar, &err);
	if (rc < 0)
		buf_printf(&log, "!%s", err_text(&err));
	tar_deinit(&tar);
	return buf_steal(&log);
}

static void add(struct buf *archive, enum tar_type type, const char *name, const char *link, const char *data)
{
	static const char zeros[TAR_BLOCK];
	struct tar_entry entry = {
		.type = type, .name = name, .link = link, .mode = 0640, .size = strlen(data), .mtime = 1700000000};

	tar_write_entry(archive, &entry);
	buf_append_str(archive, data);
	buf_append(archive, zeros, tar_padding(strlen(data)));
}

static void check_play(const struct buf *archive, const char *want)
{
	static const size_t steps[] = {1, 7, 100, 511, 512, 513, 4096, 1 << 20};

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		cleanup_free char *got = play(archive, steps[i]);
		CHECK_STR(got, want);
	}
}

TEST(what_was_written_is_read_however_it_is_cut)
{
	cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);

	add(&archive, TAR_FILE, "a", NULL, "content");
	add(&archive, TAR_DIRECTORY, "d/", NULL, "");
	add(&archive, TAR_SYMLINK, "d/l", "../a", "");
	add(&archive, TAR_HARDLINK, "h", "a", "");
	add(&archive, TAR_FILE, "empty", NULL, "");
	tar_write_end(&archive);
	CHECK_INT(archive.len % TAR_BLOCK, 0);
	check_play(&archive, "[file a> 640 7 1700000000:content][dir d/> 640 0 1700000000:][symlink d/l>../a 640 0 1700000000:]"
			     "[hardlink h>a 640 0 1700000000:][file empty> 640 0 1700000000:]");
}

TEST(names_and_targets_of_any_length_are_kept)
{
	for (size_t len = 98; len <= 102; len++) {
		cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);
		char name[103] = {0};

		memset(name, 'n', len);
		cleanup_free char *want = xasprintf("[symlink %s>%s 640 0 1700000000:]", name, name);
		add(&archive, TAR_SYMLINK, name, name, "");
		tar_write_end(&archive);
		check_play(&archive, want);
	}
}

TEST(a_size_beyond_what_octal_digits_hold_is_kept)
{
	cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);
	struct buf log = BUF_INIT(BUF_UNBOUNDED);
	struct tar_events events = {on_entry, on_data, on_end, &log};
	struct tar tar;

	tar_write_entry(&archive, &(struct tar_entry){.type = TAR_FILE, .name = "big", .size = UINT64_C(1) << 40});
	tar_init(&tar, &events);
	CHECK_INT(tar_feed(&tar, archive.data, archive.len, NULL), 0);
	CHECK_STR(log.data, "[file big> 0 1099511627776 0:");
	tar_deinit(&tar);
	buf_deinit(&log);
}

/* A block of pax records, as a header of that type and its data. */
static void add_pax(struct buf *archive, char type, const char *records)
{
	size_t at = archive->len;
	unsigned sum = 0;

	add(archive, TAR_FILE, "pax", NULL, records);
	char *block = archive->data + at;
	block[156] = type;
	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)block[i];
	cleanup_free char *digits = xasprintf("%06o", sum);
	memcpy(block + 148, digits, 7);
}

TEST(pax_records_name_the_next_entry_and_only_that)
{
	cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);

	add_pax(&archive, 'g', "11 path=no\n");
	add_pax(&archive, 'x', "13 path=long\n15 linkpath=to\n20 mtime=1234567.89\n");
	add(&archive, TAR_SYMLINK, "short", "t", "");
	add(&archive, TAR_FILE, "next", NULL, "1");
	tar_write_end(&archive);
	check_play(&archive, "[symlink long>to 640 0 1700000000:][file next> 640 1 1700000000:1]");
}

TEST(broken_pax_records_are_refused)
{
	static const char *const records[] = {"path=x\n",     "99 path=x\n", "5 path=x\n", "9 path=x", "9999999999 path=x\n",
					      "10 size=x1\n", "3 \n"};

	for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
		cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);
		add_pax(&archive, 'x', records[i]);
		add(&archive, TAR_FILE, "f", NULL, "");
		tar_write_end(&archive);
		cleanup_free char *got = play(&archive, 512);
		if (i + 1 < sizeof records / sizeof records[0])
			CHECK_STR(got, "!The archive is broken: a pax record makes no sense");
	}
}

TEST(an_archive_that_is_cut_anywhere_is_broken)
{
	cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);

	add(&archive, TAR_FILE, "a", NULL, "content");
	for (size_t len = 0; len < archive.len; len += 64) {
		struct buf cut = archive;
		cut.len = len;
		cleanup_free char *got = play(&cut, 4096);
		CHECK(strstr(got, "!The archive is broken: its end is missing"));
	}
}

TEST(a_changed_header_is_refused)
{
	cleanup_buf struct buf archive = BUF_INIT(BUF_UNBOUNDED);

	add(&archive, TAR_FILE, "a", NULL, "content");
	tar_write_end(&archive);
	archive.data[0] = 'b';
	check_play(&archive, "!The archive is broken: a header's checksum is wrong");
	memset(archive.data + 124, 'z', 4);
	check_play(&archive, "!The archive is broken: a number is none");
}

TEST_MAIN()
