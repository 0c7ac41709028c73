#include "protocol/websocket.h"
#include "tap.h"

#include <string.h>

#define BYTES(literal) literal, sizeof(literal) - 1

static int note(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err)
{
	buf_printf(arg, "<%d|%.*s>", (int)opcode, (int)len, payload);
	return 0;
}

static int play(const char *stream, size_t len, size_t step, char **ret, struct err *err)
{
	cleanup_buf struct buf log = BUF_INIT(BUF_UNBOUNDED);
	struct websocket w;
	int rc = 0;

	websocket_init(&w, 300, note, &log);
	for (size_t at = 0; rc == 0 && at < len; at += step) {
		size_t n = step < len - at ? step : len - at;
		cleanup_free char *piece = malloc(n);

		memcpy(piece, stream + at, n);
		rc = websocket_feed(&w, piece, n, err);
	}
	websocket_deinit(&w);
	*ret = buf_steal(&log);
	return rc;
}

static void check(const char *stream, size_t len, const char *want)
{
	for (size_t step = 1; step <= len; step++) {
		cleanup_free char *log = NULL;

		CHECK_INT(play(stream, len, step, &log, NULL), 0);
		CHECK_STR(log, want);
	}
}

static void check_refused(const char *stream, size_t len)
{
	for (size_t step = 1; step <= len; step++) {
		cleanup_free char *log = NULL;
		cleanup_err struct err err = ERR_INIT;

		CHECK_INT(play(stream, len, step, &log, &err), -1);
		CHECK(err_is(&err, ERR_PROTOCOL));
	}
}

/* RFC 6455, 1.3 */
TEST(the_handshakes_key_and_its_accept)
{
	char key[WEBSOCKET_KEY_SIZE], accept[WEBSOCKET_ACCEPT_SIZE];

	websocket_key((const unsigned char *)"the sample nonce", key);
	CHECK_STR(key, "dGhlIHNhbXBsZSBub25jZQ==");
	websocket_accept(key, accept);
	CHECK_STR(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/* RFC 6455, 5.7 */
TEST(messages_come_out_the_same_wherever_the_stream_is_cut)
{
	check(BYTES("\x81\x05Hello"), "<1|Hello>");
	check(BYTES("\x01\x03Hel\x80\x02lo"), "<1|Hello>");
	check(BYTES("\x02\x01" "a\x89\x04ping\x00\x01" "b\x80\x01" "c\x82\x00"), "<9|ping><2|abc><2|>");
	check(BYTES("\x88\x05\x03\xE8" "bye\x81\x01x"), "<8|\x03\xE8" "bye>");
}

TEST(long_messages_have_longer_heads)
{
	cleanup_buf struct buf stream = BUF_INIT(1000), want = BUF_INIT(1000);

	buf_append(&stream, BYTES("\x82\x7E\x01\x00"));
	buf_append_str(&want, "<2|");
	for (int i = 0; i < 256; i++) {
		buf_append_char(&stream, 'a');
		buf_append_char(&want, 'a');
	}
	buf_append_str(&want, "><2|b>");
	buf_append(&stream, BYTES("\x82\x7F\0\0\0\0\0\0\0\x01" "b"));
	check(stream.data, stream.len, want.data);
}

TEST(what_breaks_the_protocol_is_refused)
{
	check_refused(BYTES("\x81\x85----Hello")); /* masked */
	check_refused(BYTES("\xC1\x01x"));         /* a reserved bit */
	check_refused(BYTES("\x83\x01x"));         /* an unknown kind */
	check_refused(BYTES("\x8B\x01x"));
	check_refused(BYTES("\x80\x01x"));         /* a continuation of nothing */
	check_refused(BYTES("\x01\x01x\x01\x01y")); /* a message inside a message */
	check_refused(BYTES("\x09\x00"));          /* a ping in fragments */
	check_refused(BYTES("\x89\x7E\x00\x80"));  /* a long ping */
	check_refused(BYTES("\x82\x7E\x01\x2D"));  /* 301 bytes: above the ceiling */
	check_refused(BYTES("\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));
}

TEST(fragments_together_keep_to_the_ceiling)
{
	cleanup_buf struct buf stream = BUF_INIT(1000);

	for (int frame = 0; frame < 2; frame++) {
		buf_append(&stream, frame == 0 ? "\x02\x7E\x00\xC8" : "\x80\x7E\x00\xC8", 4);
		for (int i = 0; i < 200; i++)
			buf_append_char(&stream, 'a');
	}
	check_refused(stream.data, stream.len);
}

static void check_written(size_t len, const char *head, size_t head_len)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED), payload = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < len; i++)
		buf_append_char(&payload, (char)('a' + i % 26));
	CHECK_INT(websocket_write(&out, WEBSOCKET_BINARY, mask, payload.data ? payload.data : "", len), 0);
	CHECK_MEM(out.data, head_len, head, head_len);
	CHECK_MEM(out.data + head_len, 4, (const char *)mask, 4);
	CHECK_INT(out.len, head_len + 4 + len);
	for (size_t i = 0; i < len; i++)
		CHECK((char)(out.data[head_len + 4 + i] ^ mask[i % 4]) == payload.data[i]);
}

TEST(frames_are_written_masked)
{
	static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	cleanup_buf struct buf out = BUF_INIT(100), small = BUF_INIT(8);

	websocket_write(&out, WEBSOCKET_TEXT, mask, "Hello", 5);
	CHECK_MEM(out.data, out.len, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
	CHECK_INT(websocket_write(&small, WEBSOCKET_TEXT, mask, "Hello", 5), -1);
	CHECK_INT(small.len, 0);
	check_written(0, BYTES("\x82\x80"));
	check_written(125, BYTES("\x82\xFD"));
	check_written(126, BYTES("\x82\xFE\x00\x7E"));
	check_written(65535, BYTES("\x82\xFE\xFF\xFF"));
	check_written(65536, BYTES("\x82\xFF\0\0\0\0\0\x01\0\0"));
}

TEST(close_frames_may_have_a_code)
{
	CHECK_INT(websocket_close_code("\x03\xE8", 2), 1000);
	CHECK_INT(websocket_close_code("\x03\xF3gone", 6), 1011);
	CHECK_INT(websocket_close_code("", 0), WEBSOCKET_NO_CLOSE_CODE);
	CHECK_INT(websocket_close_code("\x03", 1), WEBSOCKET_NO_CLOSE_CODE);
}

TEST_MAIN()
