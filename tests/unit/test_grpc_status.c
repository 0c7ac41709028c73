#include "protocol/grpc_frame.h"
#include "protocol/grpc_status.h"
#include "tap.h"

#include <string.h>

TEST(statuses_have_the_names_and_kinds_of_the_protocol)
{
	CHECK_STR(grpc_status_name(GRPC_OK), "OK");
	CHECK_STR(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
	CHECK_INT(grpc_status_kind(GRPC_NOT_FOUND), ERR_NOT_FOUND);
	CHECK_INT(grpc_status_kind(GRPC_UNAVAILABLE), ERR_TRANSPORT);
	/* These two kinds are our own cancellation and the request's own deadline. */
	CHECK_INT(grpc_status_kind(GRPC_CANCELLED), ERR_REMOTE);
	CHECK_INT(grpc_status_kind(GRPC_DEADLINE_EXCEEDED), ERR_REMOTE);
}

TEST(what_is_no_status_is_unknown)
{
	static const char *const texts[] = {"", "17", "-1", "1.0", " 5", "5 ", "0x5", "99999999999999999999"};

	CHECK_INT(grpc_status_parse("0"), GRPC_OK);
	CHECK_INT(grpc_status_parse("16"), GRPC_UNAUTHENTICATED);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		CHECK_INT(grpc_status_parse(texts[i]), GRPC_UNKNOWN);
}

/* wire: modal, Response */
TEST(answers_in_plain_http_and_resets_have_a_status)
{
	static const int https[][2] = {{400, 13}, {401, 16}, {403, 7}, {404, 12}, {429, 14}, {502, 14}, {503, 14}, {504, 14}, {500, 2}, {302, 2}};
	static const int resets[][2] = {{0, 13}, {2, 13}, {7, 14}, {8, 1}, {11, 8}, {12, 7}, {1, 13}};

	for (size_t i = 0; i < sizeof(https) / sizeof(*https); i++)
		CHECK_INT(grpc_status_of_http(https[i][0]), https[i][1]);
	for (size_t i = 0; i < sizeof(resets) / sizeof(*resets); i++)
		CHECK_INT(grpc_status_of_reset(resets[i][0]), resets[i][1]);
}

TEST(messages_are_percent_decoded_and_become_valid_text)
{
	static const char *const texts[][2] = {
		{"plain", "plain"}, {"a%20b%2525", "a b%25"}, {"100% %zz %4", "100% %zz %4"}, {"%E2%82%AC", "€"}, {"%ff", "\xEF\xBF\xBD"}, {"a%00b", "a b"},
		{"", ""},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		cleanup_free char *text = grpc_message_decode(texts[i][0]);

		CHECK_STR(text, texts[i][1]);
	}
}

TEST(timeouts_have_eight_digits_at_most)
{
	char text[GRPC_TIMEOUT_BYTES];

	CHECK_STR(grpc_timeout_format(1, text), "1m");
	CHECK_STR(grpc_timeout_format(99999999, text), "99999999m");
	CHECK_STR(grpc_timeout_format(100000000, text), "100000S");
	CHECK_STR(grpc_timeout_format(INT64_C(100000000000), text), "1666666M");
	CHECK_STR(grpc_timeout_format(INT64_MAX, text), "99999999H");
}

static int note(void *arg, const char *message, size_t len, struct err *err)
{
	return buf_printf(arg, "<%.*s>", (int)len, message);
}

TEST(messages_come_out_wherever_the_body_is_cut)
{
	static const char body[] = "\0\0\0\0\3one\0\0\0\0\0\0\0\0\0\3two";

	for (size_t step = 1; step < sizeof(body); step++) {
		cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
		struct grpc_frames f;

		grpc_frames_init(&f, 10, note, &log);
		for (size_t at = 0; at < sizeof(body) - 1; at += step)
			CHECK_INT(grpc_frames_feed(&f, body + at, step < sizeof(body) - 1 - at ? step : sizeof(body) - 1 - at, NULL), 0);
		CHECK_INT(grpc_frames_finish(&f, NULL), 0);
		grpc_frames_deinit(&f);
		CHECK_STR(log.data, "<one><><two>");
	}
}

TEST(a_compressed_message_and_an_end_inside_a_message_are_errors)
{
	cleanup_err struct err compressed = ERR_INIT, cut = ERR_INIT;
	struct grpc_frames f;

	grpc_frames_init(&f, 10, note, NULL);
	CHECK_INT(grpc_frames_feed(&f, "\1\0\0\0\1x", 6, &compressed), -1);
	CHECK(err_is(&compressed, ERR_PROTOCOL) && strstr(err_text(&compressed), "compressed"));
	grpc_frames_deinit(&f);
	grpc_frames_init(&f, 10, note, NULL);
	CHECK_INT(grpc_frames_feed(&f, "\0\0\0\0\2x", 6, NULL), 0);
	CHECK_INT(grpc_frames_finish(&f, &cut), -1);
	CHECK(err_is(&cut, ERR_PROTOCOL));
	grpc_frames_deinit(&f);
}

TEST(a_head_is_read_as_it_was_written)
{
	unsigned char head[GRPC_FRAME_HEAD_BYTES];

	grpc_frame_head(head, 0x01020304);
	CHECK_MEM(head, sizeof(head), "\0\1\2\3\4", 5);
}

TEST_MAIN()
