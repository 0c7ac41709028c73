/*
 * http_duplex: a request whose connection becomes a stream of bytes in both directions once it is answered, as Docker's API speaks for
 * commands ("hijacking"). Behind the request's body goes the input, while the answer's bytes come; the input's end is a half-close, so that
 * the service sees it and the answer goes on. The connection is the call's own and ends with it.
 *
 * Over TLS there is no half-close: there the service cannot see the input's end.
 *
 * The rules and errors of http.h hold.
 */
#ifndef HTTP_DUPLEX_H
#define HTTP_DUPLEX_H

#include "http.h"

struct http_duplex_request {
	const char *method;
	const char *url;
	const struct http_header *headers; /* up to one with name NULL; or NULL. Host, Content-Length and User-Agent are set */
	const void *body;
	size_t body_len;
	struct input *input; /* NULL: none */
	const struct http_options *options;
	int64_t connect_ms; /* 0: HTTP_CONNECT_MS */
	int64_t answer_ms;  /* from the connection to the answer's head; 0: HTTP_DUPLEX_ANSWER_MS */
	int64_t tick_ms;    /* how often on_tick is called; 0: never */
	/*
	 * All run in the calling fiber and may wait. on_open: the stream is open. on_body, on_tick: return 0, 1 (enough) or -1. All but on_body
	 * may be NULL.
	 */
	void (*on_open)(void *arg);
	int (*on_body)(void *arg, const char *bytes, size_t n, struct err *err);
	int (*on_tick)(void *arg, struct err *err);
	void *arg;
};

#define HTTP_DUPLEX_ANSWER_MS 30000

/*
 * Waits until the service ends the stream. 0 with status 101 or 2xx: it did, or a callback had enough; with another: that is the answer,
 * its body is collected (at most 64 KiB). A service that ends it while there is input that it has not read is fine: input nobody wants.
 * *response is zeroed before, and must be deinited in either case.
 */
int http_duplex(struct http_client *client, const struct http_duplex_request *request, struct http_response *response, struct err *err);

#endif
