/* Archives, however the stream is cut. */
#include "fuzz_split.h"

#include "protocol/tar.h"

static int on_entry(void *arg, const struct tar_entry *entry, struct err *err)
{
	return buf_printf(arg, "[%d|%s|%s|%o|%llu:", (int)entry->type, entry->name, entry->link, entry->mode,
			  (unsigned long long)entry->size);
}

static int on_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	REQUIRE(n > 0);
	return buf_append(arg, bytes, n);
}

static int on_end(void *arg, struct err *err)
{
	return buf_append_str(arg, "]");
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return tar_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct tar_events events = {on_entry, on_data, on_end, log};
	struct tar tar;

	tar_init(&tar, &events);
	if (feed_pieces(&tar, feed, data, size, pattern) < 0)
		buf_append_str(log, "refused");
	else if (tar_finish(&tar, NULL) < 0)
		buf_append_str(log, "cut short");
	tar_deinit(&tar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
