/*
 * ws: a WebSocket to a service (RFC 6455), over the HTTP client's TLS, proxy and certificates. Debian's libcurl speaks none: it makes the
 * connection, we speak over it.
 *
 *	struct ws *ws;
 *	if (ws_open(client, &request, &ws, &refusal, err) == 0) {
 *		rc = ws_run(ws, on_message, arg, &close_code, err);
 *		ws_close(ws);
 *	}
 */
#ifndef WS_H
#define WS_H

#include "http.h"
#include "protocol/websocket.h"

struct ws;

struct ws_request {
	const char *url; /* wss:// or https://; ws:// and http:// to loopback */
	const struct http_header *headers; /* up to one with name NULL; or NULL */
	const struct http_options *options;
	int64_t connect_ms;  /* default HTTP_CONNECT_MS */
	int64_t answer_ms;   /* from the connection to the service's consent; default WS_ANSWER_MS */
	int64_t ping_ms;     /* after this silence it is asked whether it is still there; after twice of it, it is gone. 0: never */
	size_t message_max;  /* ceiling of a message; default WS_MESSAGE_MAX */
};

#define WS_ANSWER_MS 30000
#define WS_MESSAGE_MAX ((size_t)16 << 20)

/*
 * Opens it; waits. On failure *refusal (zeroed before, deinit it in either case) has the service's answer, if there was one: then the
 * error is ERR_REMOTE. Else as http_perform.
 */
int ws_open(struct http_client *client, const struct ws_request *request, struct ws **ret, struct http_response *refusal, struct err *err);

/*
 * Hands on messages until the service closes; waits. on_message: text or binary; runs in the calling fiber and may wait, meanwhile nothing
 * is read; returns 0, 1 when it has enough, or -1. Pings are answered. Returns 0 with the close code (1000: as it should be; 0: on_message
 * had enough), or -1: what on_message returned, ERR_TRANSPORT when the connection was lost (the code 1006 of other implementations),
 * ERR_TIMEOUT, ERR_PROTOCOL.
 */
int ws_run(struct ws *ws, websocket_fn *on_message, void *arg, int *ret_close_code, struct err *err);
/* Sends a message; waits. From the fiber of ws_run's callback too. */
int ws_send(struct ws *ws, enum websocket_opcode opcode, const void *payload, size_t len, struct err *err);
/* Says goodbye as far as that needs no waiting, and closes. NULL is fine. */
void ws_close(struct ws *ws);

#endif
