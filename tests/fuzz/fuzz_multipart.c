/* Multipart messages, however the stream is cut. */
#include "fuzz_split.h"

#include "protocol/header_value.h"
#include "protocol/multipart.h"

static int on_part(void *arg, const struct multipart_part *part, struct err *err)
{
	return buf_printf(arg, "[%s|%s|%s|%lld:", part->name ? part->name : "-", part->filename ? part->filename : "-",
			  part->content_type ? part->content_type : "-", (long long)part->length);
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
	return multipart_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct multipart_events events = {on_part, on_data, on_end, log};
	struct multipart m;

	REQUIRE(multipart_init(&m, "multipart/form-data; boundary=B", &events, NULL) == 0);
	/* What a broken part had of its data before the stream breaks depends on the cuts: only whole plays are compared. */
	if (feed_pieces(&m, feed, data, size, pattern) < 0) {
		buf_reset(log);
		buf_append_str(log, "refused");
	} else if (multipart_finish(&m, NULL) < 0) {
		buf_append_str(log, "cut short");
	}
	multipart_deinit(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *value = malloc(size + 1), *param;

	memcpy(value, data, size);
	value[size] = '\0';
	param = header_param(value, "filename");
	REQUIRE(!param || strlen(param) <= 3 * size);
	free(param);
	free(value);
	return require_same_however_cut(data, size, play);
}
