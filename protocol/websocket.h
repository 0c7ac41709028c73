/*
 * websocket: the client's side of RFC 6455, without extensions: the handshake's key, frames out (masked), messages in (put together
 * from their fragments).
 */
#ifndef PROTOCOL_WEBSOCKET_H
#define PROTOCOL_WEBSOCKET_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

enum websocket_opcode {
	WEBSOCKET_CONTINUATION = 0,
	WEBSOCKET_TEXT = 1,
	WEBSOCKET_BINARY = 2,
	WEBSOCKET_CLOSE = 8,
	WEBSOCKET_PING = 9,
	WEBSOCKET_PONG = 10,
};

#define WEBSOCKET_KEY_BYTES 16
#define WEBSOCKET_KEY_SIZE 25
#define WEBSOCKET_ACCEPT_SIZE 29
#define WEBSOCKET_NO_CLOSE_CODE 1005

/* Sec-WebSocket-Key of random bytes, and the Sec-WebSocket-Accept that a server must answer to it. */
void websocket_key(const unsigned char random[WEBSOCKET_KEY_BYTES], char out[WEBSOCKET_KEY_SIZE]);
void websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT_SIZE]);

/* Appends a final frame with its payload masked. Control frames carry at most 125 bytes (asserted). -1 at the buffer's ceiling. */
int websocket_write(struct buf *out, enum websocket_opcode opcode, const unsigned char mask[4], const void *payload, size_t len);

/* A whole message or control frame, borrowed for the call. Text is not checked to be UTF-8. May wait if websocket_feed's caller may. */
typedef int websocket_fn(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err);

struct websocket {
	websocket_fn *on_message;
	void *arg;
	size_t message_max;
	struct buf held;                /* bytes of the unfinished frame */
	struct buf message;             /* fragments so far */
	enum websocket_opcode fragmented; /* of the message in fragments; CONTINUATION: none is open */
	bool closed;                    /* a close frame came: what follows is dropped */
};

void websocket_init(struct websocket *w, size_t message_max, websocket_fn *on_message, void *arg);
/* Takes a zeroed value. */
void websocket_deinit(struct websocket *w);
/* 0, or -1: what on_message returned, or ERR_PROTOCOL. */
int websocket_feed(struct websocket *w, const void *bytes, size_t n, struct err *err);
/* The code in a close frame's payload; WEBSOCKET_NO_CLOSE_CODE: it has none. */
int websocket_close_code(const char *payload, size_t len);

#endif
