#include "protocol/websocket.h"

#include "protocol/base64.h"
#include "protocol/digest.h"

#include <assert.h>
#include <string.h>

#define FINAL 0x80u
#define RESERVED 0x70u
#define MASKED 0x80u
#define CONTROL_MAX 125
#define HEAD_MAX 10 /* of a server's frame: no mask */

static void encode(const void *bytes, size_t n, char *out, size_t size)
{
	cleanup_buf struct buf text = BUF_INIT(64);

	base64_encode(&text, bytes, n);
	assert(text.len + 1 == size);
	memcpy(out, text.data, size);
}

void websocket_key(const unsigned char random[WEBSOCKET_KEY_BYTES], char out[WEBSOCKET_KEY_SIZE])
{
	encode(random, WEBSOCKET_KEY_BYTES, out, WEBSOCKET_KEY_SIZE);
}

void websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT_SIZE])
{
	cleanup_buf struct buf text = BUF_INIT(256);
	unsigned char digest[SHA1_BYTES];

	buf_printf(&text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
	sha1(text.data, text.len, digest);
	encode(digest, sizeof(digest), out, WEBSOCKET_ACCEPT_SIZE);
}

static bool is_control(unsigned opcode)
{
	return opcode & 8;
}

static void write_big_endian(unsigned char *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
}

int websocket_write(struct buf *out, enum websocket_opcode opcode, const unsigned char mask[4], const void *payload, size_t len)
{
	unsigned char head[HEAD_MAX] = {(unsigned char)(FINAL | (unsigned)opcode)};
	size_t head_len = 2;

	assert(!is_control((unsigned)opcode) || len <= CONTROL_MAX);
	if (len < 126) {
		head[1] = (unsigned char)(MASKED | len);
	} else if (len <= UINT16_MAX) {
		head[1] = MASKED | 126;
		write_big_endian(head + 2, len, 2);
		head_len = 4;
	} else {
		head[1] = MASKED | 127;
		write_big_endian(head + 2, len, 8);
		head_len = 10;
	}
	if (len > BUF_UNBOUNDED / 2 || !buf_reserve(out, head_len + 4 + len))
		return -1;
	buf_append(out, head, head_len);
	buf_append(out, mask, 4);
	char *to = buf_reserve(out, len);

	for (size_t i = 0; i < len; i++)
		to[i] = (char)(((const unsigned char *)payload)[i] ^ mask[i % 4]);
	buf_added(out, len);
	return 0;
}

void websocket_init(struct websocket *w, size_t message_max, websocket_fn *on_message, void *arg)
{
	*w = (struct websocket){
		.on_message = on_message,
		.arg = arg,
		.message_max = message_max,
		.held = BUF_INIT(BUF_UNBOUNDED),
		.message = BUF_INIT(message_max),
	};
}

void websocket_deinit(struct websocket *w)
{
	buf_wipe(&w->held);
	buf_wipe(&w->message);
}

static int too_long(const struct websocket *w, struct err *err)
{
	return err_set(err, ERR_PROTOCOL, "the WebSocket carries a message of more than %zu bytes", w->message_max);
}

struct frame {
	unsigned opcode;
	bool final;
	size_t head_len;
	uint64_t len;
};

/* 1: the frame's head is there; 0: it is not; -1: it breaks the protocol. */
static int read_head(const struct websocket *w, const unsigned char *p, size_t n, struct frame *ret, struct err *err)
{
	if (n < 2)
		return 0;
	*ret = (struct frame){.opcode = p[0] & 15, .final = p[0] & FINAL, .head_len = 2, .len = p[1] & 127};
	int extended = ret->len == 126 ? 2 : ret->len == 127 ? 8 : 0;

	if (p[0] & RESERVED || p[1] & MASKED)
		return err_set(err, ERR_PROTOCOL, "a WebSocket frame has bits set that were not agreed on");
	if (is_control(ret->opcode) && (!ret->final || extended))
		return err_set(err, ERR_PROTOCOL, "a WebSocket control frame is fragmented or too long");
	if ((ret->opcode > WEBSOCKET_BINARY && ret->opcode < WEBSOCKET_CLOSE) || ret->opcode > WEBSOCKET_PONG)
		return err_set(err, ERR_PROTOCOL, "a WebSocket frame is of the unknown kind %u", ret->opcode);
	if (n < 2 + (size_t)extended)
		return 0;
	if (extended)
		ret->len = 0;
	for (int i = 0; i < extended; i++)
		ret->len = ret->len << 8 | p[2 + i];
	ret->head_len += (size_t)extended;
	return ret->len > w->message_max && !is_control(ret->opcode) ? too_long(w, err) : 1;
}

static int take_data(struct websocket *w, const struct frame *frame, const char *payload, struct err *err)
{
	bool open = w->fragmented != WEBSOCKET_CONTINUATION;

	if (open != (frame->opcode == WEBSOCKET_CONTINUATION))
		return err_set(err, ERR_PROTOCOL, "the fragments of a WebSocket message are out of order");
	if (frame->final && !open)
		return w->on_message(w->arg, (enum websocket_opcode)frame->opcode, payload, (size_t)frame->len, err);
	if (!open)
		w->fragmented = (enum websocket_opcode)frame->opcode;
	if (buf_append(&w->message, payload, (size_t)frame->len) < 0)
		return too_long(w, err);
	if (!frame->final)
		return 0;
	int rc = w->on_message(w->arg, w->fragmented, w->message.data, w->message.len, err);

	w->fragmented = WEBSOCKET_CONTINUATION;
	buf_reset(&w->message);
	return rc;
}

static int take_frame(struct websocket *w, const struct frame *frame, const char *payload, struct err *err)
{
	if (!is_control(frame->opcode))
		return take_data(w, frame, payload, err);
	w->closed = frame->opcode == WEBSOCKET_CLOSE;
	return w->on_message(w->arg, (enum websocket_opcode)frame->opcode, payload, (size_t)frame->len, err);
}

int websocket_feed(struct websocket *w, const void *bytes, size_t n, struct err *err)
{
	size_t done = 0;
	int rc = 0;

	if (w->closed || n == 0)
		return 0;
	buf_append(&w->held, bytes, n);
	while (rc == 0 && !w->closed) {
		const char *at = w->held.data + done;
		size_t left = w->held.len - done;
		struct frame frame;
		int got = read_head(w, (const unsigned char *)at, left, &frame, err);

		if (got < 0)
			rc = -1;
		if (got <= 0 || left - frame.head_len < frame.len)
			break;
		rc = take_frame(w, &frame, at + frame.head_len, err);
		done += frame.head_len + (size_t)frame.len;
	}
	buf_consume(&w->held, done);
	return rc;
}

int websocket_close_code(const char *payload, size_t len)
{
	const unsigned char *p = (const unsigned char *)payload;

	return len < 2 ? WEBSOCKET_NO_CLOSE_CODE : p[0] << 8 | p[1];
}
