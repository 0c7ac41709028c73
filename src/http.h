/*
 * http: requests to the services, as calls that wait.
 *
 *	struct http_response response = {0};
 *	struct http_request request = {
 *		.method = "POST", .url = url, .headers = headers,
 *		.body = HTTP_BYTES(text, len), .deadlines = {.total_ms = 60000},
 *	};
 *	if (http_perform(client, &request, &response, err) == 0 && response.status == 201) …
 *	http_response_deinit(&response);
 *
 * Any complete answer is a success, whatever its status: what a status means is the caller's to say. Connections are kept and shared by
 * all calls of a client (HTTP/2 where the service offers it); requests that may take long have connections of their own, so that they
 * delay no others. Cancelling the fiber ends the transfer at once.
 *
 * Rules that no caller can change: TLS is verified; plain http goes to loopback hosts only; redirects to another origin are not
 * followed; proxies come from the options alone, never from the environment; errors name the host, never paths, queries or headers;
 * the credentials in the usual headers are masked in all that leaves the worker (secret.h).
 *
 * Errors:
 *	ERR_INVALID    the request or its options are wrong: nothing was sent
 *	ERR_TRANSPORT  no connection, or it broke ("connect ECONNREFUSED 127.0.0.1:1", "read ECONNRESET (api.example)")
 *	ERR_TIMEOUT    one of the deadlines, or the fiber's own, has passed. (op.c words an error of this kind as the host's deadline: a
 *	               driver whose service is to blame gives it another kind and its own text)
 *	ERR_PROTOCOL   the answer makes no sense, or is bigger than allowed
 *	ERR_CANCELLED  the fiber was cancelled
 * and what the callbacks return. The response says how far it came: response.sent, response.status.
 */
#ifndef HTTP_H
#define HTTP_H

#include "base/buf.h"
#include "base/err.h"
#include "input.h"

#include <stdint.h>

struct http_client;
struct worker;

/* The worker's client, made at its first use (which is what initialises libcurl). Borrowed. */
struct http_client *worker_http(struct worker *worker);

/* --- options: the network of one environment --- */

/*
 * Config keys that all HTTP drivers share; all optional:
 *	proxyUrl          "http://proxy.corp:3128", https://, socks5:// or socks5h://; may hold user:password@
 *	proxyCredentials  "user:password" (secret)
 *	caFile            path of a PEM file with further CA certificates, for private services and inspecting proxies
 *
 * Certificates that are trusted: those of the first of these files that is there, and those of caFile:
 * $SSL_CERT_FILE, /etc/ssl/certs/ca-certificates.crt, /etc/pki/tls/certs/ca-bundle.crt, /etc/ssl/ca-bundle.pem,
 * /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem, /etc/ssl/cert.pem, ca-certificates.crt beside the worker's executable.
 */
struct http_options {
	char *proxy_url;         /* owned, without credentials; NULL: none */
	char *proxy_credentials; /* owned; NULL: none */
	char *ca_file;           /* owned; NULL: none */
	struct secret *secret;   /* holds the credentials */
	/* Set by drivers whose service is reached so; http_options_read leaves them NULL. Owned. */
	char *socket_path;       /* of a Unix socket that is connected to, whatever the URL's host ("http://localhost/…") */
	char *cert_file;         /* PEM file of a TLS client certificate */
	char *key_file;          /* … and of its key; NULL: in cert_file too */
};

/* Adds an error text for each of the shared keys that is wrong. Pure. */
struct strv;
void http_options_validate(const json_t *config, struct strv *errors);
/* Copies the shared keys that are set, trimmed, to the normalised config. Pure. */
void http_options_normalize(const json_t *config, json_t *normalized);
/* -1, ERR_INVALID: the first of the errors that validation finds. */
int http_options_read(const json_t *config, struct http_options *ret, struct err *err);
/* Takes NULL and zeroed values. */
void http_options_deinit(struct http_options *options);

/* --- requests --- */

struct http_header {
	const char *name, *value; /* value NULL: left out */
};

/* Fills the room with up to n bytes; *ret_n 0 is the end. Waits. Runs in a fiber of its own. */
typedef int http_read_fn(void *arg, void *room, size_t n, size_t *ret_n, struct err *err);

/* What the request's body is made of: any number of pieces, of which at most one is a source (or a descriptor that is no regular file). */
struct http_piece {
	enum { HTTP_PIECE_BYTES, HTTP_PIECE_FD, HTTP_PIECE_SOURCE } kind;
	const void *bytes; /* borrowed */
	int64_t size;      /* of bytes; of a source: what it will give, -1: unknown. Ignored for descriptors */
	int fd;            /* borrowed; from its start if it is a regular file, else what can be read until its end */
	http_read_fn *read;
	void *arg;
};

/* Bytes in memory, or pieces if there are any. Zeroed: no body. */
struct http_body {
	const void *bytes; /* borrowed */
	size_t size;
	const struct http_piece *pieces; /* borrowed */
	size_t count;
};

#define HTTP_BYTES(data, len) ((struct http_body){.bytes = (data), .size = (len)})
#define HTTP_PIECE(data, len) ((struct http_piece){.kind = HTTP_PIECE_BYTES, .bytes = (data), .size = (int64_t)(len)})
/* A command's stdin as a piece. */
struct http_piece http_input_piece(const struct input *input);

#define HTTP_CONNECT_MS 15000
#define HTTP_BODY_MAX ((size_t)16 << 20)

/* 0: the default, or none. Each runs inside the fiber's own deadline. */
struct http_deadlines {
	int64_t connect_ms;    /* for name, connection, proxy and TLS of one attempt; default HTTP_CONNECT_MS */
	int64_t first_byte_ms; /* from the last byte sent to the answer's first */
	int64_t idle_ms;       /* between two pieces of the answer; not while its consumer waits */
	int64_t total_ms;      /* of the whole call: all attempts and the pauses between them */
};

/* When an attempt that failed is repeated. Each kind includes those before it. */
enum http_repeat {
	HTTP_REPEAT_UNSENT,     /* the request surely did not reach the service: refused, unresolved, no TLS */
	HTTP_REPEAT_REJECTED,   /* the service says that it did nothing: 429, 503 */
	HTTP_REPEAT_IDEMPOTENT, /* doing it twice does no harm: lost answers, 408, 500, 502, 504 */
	HTTP_REPEAT_NEVER = -1,
};

struct http_retry {
	enum http_repeat repeat;
	unsigned attempts_max;      /* in all; 0: 4 */
	bool needs_retry_after;     /* 429 and 503 are repeated only if they say when */
	int64_t base_ms;            /* the first pause, doubled each time, less up to half by chance; 0: 250 */
};

struct http_response;

/* What becomes of an answer's body. */
enum http_take {
	HTTP_COLLECT, /* it goes to response.body */
	HTTP_STREAM,  /* on_body gets it */
};

struct http_request {
	const char *method; /* in capitals */
	const char *url;    /* may hold secrets; without user:password@ */
	const struct http_header *headers; /* up to one with name NULL; or NULL */
	struct http_body body;
	const struct http_options *options; /* NULL: none */
	struct http_deadlines deadlines;
	struct http_retry retry;
	size_t body_max;       /* ceiling of response.body; 0: HTTP_BODY_MAX */
	bool follow_redirects; /* within the origin; 301, 302, 303 of GET and HEAD only */
	/*
	 * The answer comes when a command has ended, or never ends: such calls have connections of their own. Implied by on_body.
	 */
	bool long_lived;
	/*
	 * HTTP/2 and nothing else, also over plain http (RFC 9113, 3.3: with prior knowledge), and no compressed answers: what gRPC needs. A
	 * service that speaks HTTP/1 is an error.
	 */
	bool http2_only;

	/*
	 * Streaming. on_answer: the headers are there; NULL: an answer with 2xx is streamed, others are collected. on_body: takes a
	 * piece; returns 0 to go on, 1 when it has enough (the call then succeeds, the rest is not read), -1 to fail. Both run in the
	 * calling fiber and may wait; meanwhile not more than some 100 KiB are read ahead. A call is repeated only before on_body ran.
	 */
	int (*on_answer)(void *arg, const struct http_response *response, enum http_take *ret, struct err *err);
	int (*on_body)(void *arg, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct http_headers {
	struct http_header_line {
		char *name, *value; /* owned */
	} *lines;
	size_t count;
	size_t bytes;
};

struct http_response {
	int status; /* 0: there was no answer */
	struct http_headers headers;
	struct http_headers trailers; /* what came behind the body */
	struct buf body; /* data is never NULL after a success: "" if empty */
	bool sent;       /* a failed request may have reached the service and been carried out */
	int http2_error; /* of a failed request: the code that the service ended the stream with (RFC 9113, 7); -1: it did not */
	unsigned attempts;
	int64_t total_ms;
};

/*
 * Waits for the answer. Returns 0 with it in *response, or -1. *response is zeroed before; what it holds is the last attempt's, and must be
 * deinited in either case.
 */
int http_perform(struct http_client *client, const struct http_request *request, struct http_response *response, struct err *err);

/* Takes NULL and zeroed values. Overwrites the body: it may hold tokens. */
void http_response_deinit(struct http_response *response);
#define cleanup_http_response cleanup(http_response_deinit)

/* The value of the first header of this name (in any case), or NULL. Borrowed. */
const char *http_header(const struct http_response *response, const char *name);
const char *http_trailer(const struct http_response *response, const char *name);
bool http_is_success(const struct http_response *response);
/* True if the answer's media type is application/json or …+json. */
bool http_is_json(const struct http_response *response);
/* The body as JSON: new reference. -1, ERR_PROTOCOL. Bytes that are no UTF-8 become U+FFFD. */
int http_response_json(const struct http_response *response, json_t **ret, struct err *err);

/* --- client --- */

/* user_agent: sent where a request does not set its own. One thread; the scheduler's loop. */
struct http_client *http_client_create(const char *user_agent);
/* All calls must have ended. NULL is fine. The loop must run once more to free what libuv holds. */
void http_client_destroy(struct http_client *client);

struct http_stats {
	uint64_t requests;    /* attempts */
	uint64_t connections; /* opened */
	unsigned open;        /* sockets at present */
	unsigned open_max;    /* at the same time */
};
struct http_stats http_client_stats(const struct http_client *client);

#endif
