#include "protocol/docker_frame.h"
#include "tap.h"

#include "base/buf.h"

#include <string.h>

static int note(void *arg, const struct docker_piece *piece, struct err *err)
{
	struct buf *log = arg;
	/* A piece that goes on where the last one ended is shown as one with it. */
	bool goes_on = piece->offset > 0;

	if (!goes_on)
		buf_printf(log, "%s%d/%u:", log->len ? " " : "", (int)piece->type, (unsigned)piece->frame_size);
	buf_append(log, piece->bytes, piece->n);
	return 0;
}

/* wire: docker, 4; the third frame is empty, and the fourth has bytes of a frame's head in it. */
static const char stream[] = "\1\0\0\0\0\0\0\3hi\n"
			     "\2\0\0\0\0\0\0\4oops"
			     "\1\0\0\0\0\0\0\0"
			     "\1\0\0\0\0\0\0\5\2\0\0\0z"
			     "\3\0\0\0\0\0\0\1!";
static const char played[] = "1/3:hi\n 2/4:oops 1/5:\2\0\0\0z 3/1:!";

TEST(frames_come_out_the_same_wherever_the_stream_is_cut)
{
	for (size_t step = 1; step < sizeof(stream); step++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
		struct docker_frames f;

		docker_frames_init(&f, note, &log);
		for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
			size_t n = step < sizeof(stream) - 1 - at ? step : sizeof(stream) - 1 - at;
			cleanup_free char *piece = malloc(n);

			memcpy(piece, stream + at, n);
			CHECK_INT(docker_frames_feed(&f, piece, n, NULL), 0);
		}
		CHECK_INT(docker_frames_finish(&f, NULL), 0);
		CHECK_MEM(log.data, log.len, played, sizeof(played) - 1);
	}
}

TEST(a_stream_that_ends_inside_a_frame_is_an_error)
{
	for (size_t len = 1; len < 11; len++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
		cleanup_err struct err err = ERR_INIT;
		struct docker_frames f;

		docker_frames_init(&f, note, &log);
		CHECK_INT(docker_frames_feed(&f, stream, len, &err), 0);
		CHECK_INT(docker_frames_finish(&f, &err), -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
	}
}

TEST(what_is_no_frame_is_refused_by_its_head)
{
	static const char *const heads[] = {"\4\0\0\0\0\0\0\1x", "\1\1\0\0\0\0\0\1x", "\1\0\1\0\0\0\0\1x", "\1\0\0\1\0\0\0\1x", "HTTP/1.1 "};

	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		cleanup_err struct err err = ERR_INIT;
		struct docker_frames f;

		docker_frames_init(&f, note, NULL);
		CHECK_INT(docker_frames_feed(&f, heads[i], 9, &err), -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
	}
}

static int count(void *arg, const struct docker_piece *piece, struct err *err)
{
	uint64_t *bytes = arg;

	CHECK_INT(piece->offset, *bytes);
	CHECK_INT(piece->frame_size, UINT32_MAX);
	*bytes += piece->n;
	return 0;
}

TEST(a_frame_of_four_gigabytes_is_passed_on_as_it_comes)
{
	static char piece[65536];
	struct docker_frames f;
	uint64_t bytes = 0;

	docker_frames_init(&f, count, &bytes);
	CHECK_INT(docker_frames_feed(&f, "\1\0\0\0\xff\xff\xff\xff", 8, NULL), 0);
	for (int i = 0; i < 100; i++)
		CHECK_INT(docker_frames_feed(&f, piece, sizeof piece, NULL), 0);
	CHECK_INT(bytes, 100 * sizeof piece);
	CHECK_INT(docker_frames_finish(&f, NULL), -1);
}

static int refuse(void *arg, const struct docker_piece *piece, struct err *err)
{
	return err_set(err, ERR_REMOTE, "no");
}

TEST(the_callers_refusal_ends_the_feeding)
{
	cleanup_err struct err err = ERR_INIT;
	struct docker_frames f;

	docker_frames_init(&f, refuse, NULL);
	CHECK_INT(docker_frames_feed(&f, stream, 8, &err), 0);
	CHECK_INT(docker_frames_feed(&f, stream + 8, 1, &err), -1);
	CHECK_STR(err_text(&err), "no");
}

TEST_MAIN()
