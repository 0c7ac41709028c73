#include "protocol/connect_frame.h"
#include "tap.h"

#include <string.h>

#define BYTES(literal) literal, sizeof(literal) - 1

static int note(void *arg, unsigned flags, const char *message, size_t len, struct err *err)
{
	struct buf *log = arg;

	buf_printf(log, "<%u|%.*s>", flags, (int)len, message);
	return 0;
}

/* wire: e2b, running a command */
static const char stream[] = "\0\0\0\0\x21{\"event\":{\"start\":{\"pid\":19142}}}"
			     "\0\0\0\0\x24{\"event\":{\"data\":{\"stdout\":\"aMOp\"}}}"
			     "\0\0\0\0\0"
			     "\x02\0\0\0\x02{}";

TEST(messages_come_out_the_same_wherever_the_stream_is_cut)
{
	for (size_t step = 1; step < sizeof(stream); step++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
		struct connect_frames f;

		connect_frames_init(&f, 100, note, &log);
		for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
			size_t n = step < sizeof(stream) - 1 - at ? step : sizeof(stream) - 1 - at;
			cleanup_free char *piece = malloc(n);

			memcpy(piece, stream + at, n);
			CHECK_INT(connect_frames_feed(&f, piece, n, NULL), 0);
		}
		CHECK_INT(connect_frames_finish(&f, NULL), 0);
		connect_frames_deinit(&f);
		CHECK_STR(log.data, "<0|{\"event\":{\"start\":{\"pid\":19142}}}><0|{\"event\":{\"data\":{\"stdout\":\"aMOp\"}}}><0|><2|{}>");
	}
}

TEST(a_stream_that_ends_inside_a_message_is_an_error)
{
	for (size_t len = 1; len < 7; len++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
		cleanup_err struct err err = ERR_INIT;
		struct connect_frames f;

		connect_frames_init(&f, 100, note, &log);
		CHECK_INT(connect_frames_feed(&f, "\0\0\0\0\2{}", len, &err), 0);
		CHECK_INT(connect_frames_finish(&f, &err), len == 7 ? 0 : -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
		connect_frames_deinit(&f);
	}
}

TEST(a_message_above_the_ceiling_is_refused_by_its_head)
{
	for (size_t first = 1; first <= 5; first++) {
		cleanup_err struct err err = ERR_INIT;
		struct connect_frames f;

		connect_frames_init(&f, 2, note, NULL);
		int rc = connect_frames_feed(&f, "\0\0\0\0\3", first, &err);

		if (rc == 0)
			rc = connect_frames_feed(&f, "\0\0\0\0\3" + first, 5 - first, &err);
		CHECK_INT(rc, -1);
		CHECK_STR(err_text(&err), "the stream holds a message of 3 bytes; at most 2 are taken");
		connect_frames_deinit(&f);
	}
}

static int refuse(void *arg, unsigned flags, const char *message, size_t len, struct err *err)
{
	return err_set(err, ERR_REMOTE, "no");
}

TEST(the_callers_refusal_ends_the_feeding)
{
	cleanup_err struct err err = ERR_INIT;
	struct connect_frames f;

	connect_frames_init(&f, 10, refuse, NULL);
	CHECK_INT(connect_frames_feed(&f, BYTES("\0\0\0\0\1"), &err), 0);
	CHECK_INT(connect_frames_feed(&f, "x", 1, &err), -1);
	connect_frames_deinit(&f);
}

TEST(what_is_written_can_be_read)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED), small = BUF_INIT(6), log = BUF_INIT(BUF_UNBOUNDED);
	struct connect_frames f;

	CHECK_INT(connect_frame_write(&out, 0, "{}", 2), 0);
	CHECK_MEM(out.data, out.len, "\0\0\0\0\2{}", 7);
	CHECK_INT(connect_frame_write(&out, CONNECT_FRAME_END_STREAM, "", 0), 0);
	CHECK_INT(connect_frame_write(&small, 0, "{}", 2), -1);
	CHECK_INT(small.len, 0);
	connect_frames_init(&f, 10, note, &log);
	CHECK_INT(connect_frames_feed(&f, out.data, out.len, NULL), 0);
	CHECK_STR(log.data, "<0|{}><2|>");
	connect_frames_deinit(&f);
}

TEST_MAIN()
