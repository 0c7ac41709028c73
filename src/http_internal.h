/* http_internal: what the parts of the HTTP client share. */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include "fiber.h"
#include "http.h"
#include "protocol/url.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <uv.h>

/* --- http_pool.c: a multi handle on the loop --- */

struct http_client;

/* Connections that calls share. */
struct http_pool {
	struct http_client *client;
	CURLM *multi;
	uv_timer_t *timer; /* owned; freed when it is closed */
	unsigned transfers;
	unsigned paused;   /* of them, those whose consumer is behind */
	struct list lanes;
	unsigned lane_connections; /* of one lane at most */
};

struct http_pool_limits {
	long per_host, total; /* connections */
	unsigned per_lane;    /* over HTTP/2 */
};

/* What a transfer has that is known to the pool: curl's private pointer. */
struct http_handle {
	CURL *easy;
	struct event event; /* set when it is done, and at whatever the owner wants to be woken for */
	bool done;
	CURLcode code;
	bool receive_paused, send_paused; /* a callback has told curl to pause */
};

void http_pool_init(struct http_pool *pool, struct http_client *client, const struct http_pool_limits *limits);
void http_pool_deinit(struct http_pool *pool);
/* The handle's easy is configured; curl's private pointer becomes the handle. */
void http_pool_add(struct http_pool *pool, struct http_handle *handle);
/* Never from a callback of curl's. Fine for a handle that is done. */
void http_pool_remove(struct http_pool *pool, struct http_handle *handle);
/* Undo a callback's pause, from a fiber. May call the handle's callbacks. */
void http_handle_resume_receiving(struct http_handle *handle);
void http_handle_resume_sending(struct http_handle *handle);

/* --- http_lane.c: how many calls a service gets at once --- */

struct http_lane;

struct http_ticket {
	struct list *lanes;
	struct http_lane *lane; /* NULL: none was entered */
	bool opens;             /* the others wait for the connection that this call opens */
};

/* Waits until the call may begin. key: what shares connections. connections_max: to let others wait beyond. -1: see above. */
int http_lane_enter(struct list *lanes, const char *key, unsigned connections_max, struct http_ticket *ret, struct err *err);
/* The call is to have a connection of its own making (CURLOPT_FRESH_CONNECT), for others to share. */
bool http_lane_wants_new(const struct http_ticket *ticket);
/* The call has made a socket; and, whoever made it, it is about to be closed. */
void http_lane_socket_opened(struct http_ticket *ticket, int fd);
void http_lanes_socket_closed(struct list *lanes, int fd);
/* The call has a connection: the one with this port of ours. */
void http_lane_connected(struct http_ticket *ticket, int local_port);
/* The service speaks HTTP/1. */
void http_lane_is_serial(struct http_ticket *ticket);
/* The call has ended; cause: it got no connection, and this is why; else NULL. A ticket without a lane is fine. */
void http_lane_leave(struct http_ticket *ticket, const struct err *cause);
void http_lanes_deinit(struct list *lanes);

/* --- http_trust.c: which certificates are trusted --- */

struct http_trust {
	const char *const *candidates; /* paths of the system's store; NULL-terminated, borrowed */
	char *system;                  /* owned; the one that was found; NULL: not looked for, or none */
	struct list joined;            /* stores with further certificates */
};

void http_trust_init(struct http_trust *trust, const char *const *candidates);
void http_trust_deinit(struct http_trust *trust);
/* The path of a PEM file with the system's certificates and those of ca_file (may be NULL). Borrowed. NULL: ERR_INVALID. */
const char *http_trust_file(struct http_trust *trust, const char *ca_file, struct err *err);
/* The paths of the header comment in http.h. */
const char *const *http_trust_system_candidates(void);

/* --- the client --- */

struct http_client {
	struct http_pool short_calls, long_calls;
	struct http_trust trust;
	char *user_agent; /* owned */
	struct http_stats stats;
};

/* --- http_target.c: where a request goes --- */

struct http_target {
	struct url url;
	char *text;  /* owned: what curl gets */
	char *where; /* owned: "host" or "host:port", for people */
};

/* -1, ERR_INVALID: no valid URL, credentials in it, or plain http to another machine. schemes: "http\0https\0" or "ws\0wss\0". */
int http_target_init(struct http_target *target, const char *url, bool websocket, struct err *err);
/* It is reached by the options' Unix socket, if they have one: `where` is that. */
void http_target_use_options(struct http_target *target, const struct http_options *options);
void http_target_deinit(struct http_target *target);

/* --- http_setup.c: what every easy handle has --- */

/* What is known of one attempt at the network, for the words of its failure. */
struct http_route {
	struct http_client *client;
	const struct http_target *target;
	const struct http_options *options; /* NULL: none */
	struct http_ticket *ticket;         /* NULL: it shares no connection */
	int64_t connect_ms;
	bool http2_only;
	struct sockaddr_storage address; /* that was tried last; ss_family 0: none */
	char error[CURL_ERROR_SIZE];
};

/* A handle with URL, TLS, proxy, timeouts and the socket callbacks that count; NULL: ERR_INVALID. route must outlive it. */
CURL *http_easy_create(struct http_route *route, struct err *err);

/* --- http_error.c: curl's failures in words --- */

/* The code in curl's words for a stream that the service has ended; -1: they speak of something else. */
int http_error_http2(const struct http_route *route, CURLcode code);
/*
 * Sets err from curl's result. Returns -1. *ret_hopeless: a further attempt would fail alike. started: the request was on its way;
 * status: of the answer that had begun, or 0.
 */
int http_error_set(const struct http_route *route, CURL *easy, CURLcode code, bool started, int status, bool *ret_hopeless, struct err *err);

/* --- http_upload.c: a request's body on its way --- */

struct http_upload {
	const struct http_piece *pieces; /* borrowed, or `whole` */
	size_t count;
	struct http_piece whole; /* a body of bytes alone */
	int64_t size;          /* of all; -1: unknown */
	size_t piece;          /* the present one */
	uint64_t offset;       /* in it */
	uint64_t given;        /* to curl, of all */
	struct buf staged;     /* what the source gave and curl has not taken */
	bool source_ended;
	bool source_used;      /* the body can't be sent again */
	bool cut_short;        /* there are fewer bytes than announced, or they can't be read */
	struct event room;
	struct err err;        /* of the source */
	struct http_handle *handle;
};

/* -1, ERR_INVALID: more than one source, or a bad descriptor. */
int http_upload_init(struct http_upload *upload, const struct http_body *body, struct http_handle *handle, struct err *err);
void http_upload_deinit(struct http_upload *upload);
bool http_upload_has_source(const struct http_upload *upload);
/* The body if it is all in one place in memory (also an empty one), or NULL. */
const struct http_piece *http_upload_bytes(const struct http_upload *upload);
/* curl's callbacks; their argument is the upload. */
size_t http_upload_on_read(char *room, size_t size, size_t count, void *upload);
int http_upload_on_seek(void *upload, curl_off_t offset, int origin);
/* A fiber's function: reads the source until it ends. Its argument is the upload. */
void http_upload_fill(void *upload);

/* --- http_response.c --- */

/* "Name: value\r\n" as it came; other lines are ignored. -1: too many. */
int http_headers_add_line(struct http_headers *headers, const char *line, size_t len);
void http_headers_deinit(struct http_headers *headers);
const char *http_headers_get(const struct http_headers *headers, const char *name);
/* 0, or -1, ERR_INVALID: a character that would let the header add others. where: for the text, which never shows the value. */
int http_header_check(const struct http_header *header, const char *where, struct err *err);
/* "HTTP/1.1 200 OK" or "HTTP/2 200": the status; 0: no status line. */
int http_status_of_line(const char *line, size_t len);

/* --- http_transfer.c: one attempt --- */

struct http_outcome {
	bool hopeless;
	bool sent;      /* the request may have reached the service */
	bool consumed;  /* on_body ran, or the body's source was read: not to be repeated */
};

/* Waits. 0 with a complete answer, or -1. */
int http_transfer(struct http_client *client, const struct http_request *request, const struct http_target *target,
		  struct http_response *response, struct http_outcome *ret, struct err *err);

#endif
