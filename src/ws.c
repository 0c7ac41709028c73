/*
 * Path: a libcurl handle that only connects (CURLOPT_CONNECT_ONLY) gives a socket with TLS on it. From then on it stays in the pool, idle,
 * and bytes go by curl_easy_send and curl_easy_recv, with an fd_watch to wait on. First the request to upgrade and its answer, then frames.
 */
#include "ws.h"

#include "base/mem.h"
#include "base/random.h"
#include "fd_watch.h"
#include "http_internal.h"

#include <string.h>

#define HEAD_MAX 65536
#define REFUSAL_MAX 65536
#define CHUNK_BYTES 16384
#define OUT_MAX ((size_t)64 << 20)

struct ws {
	struct http_client *client;
	struct http_handle handle;
	struct http_route route;
	struct http_target target;
	struct fd_watch *watch;
	bool added;         /* to the pool */
	struct buf in;      /* what came behind the answer's head */
	struct buf out;     /* frames that are not sent yet */
	bool flushing;
	int64_t ping_ms;
	size_t message_max;
	char chunk[CHUNK_BYTES];
};

/* --- bytes --- */

static int io_failed(struct ws *ws, CURLcode code, struct err *err)
{
	bool hopeless;

	return http_error_set(&ws->route, ws->handle.easy, code, true, 101, &hopeless, err);
}

/* Sends what is in `out`; waits. Somebody who is at it already sends that too. */
static int flush(struct ws *ws, struct err *err)
{
	int rc = 0;

	if (ws->flushing)
		return 0;
	ws->flushing = true;
	while (rc == 0 && ws->out.len > 0) {
		size_t n = 0;
		CURLcode code = curl_easy_send(ws->handle.easy, ws->out.data, ws->out.len, &n);

		if (code == CURLE_OK)
			buf_consume(&ws->out, n);
		else if (code == CURLE_AGAIN)
			rc = fd_watch_wait(ws->watch, FD_WRITABLE, err);
		else
			rc = io_failed(ws, code, err);
	}
	ws->flushing = false;
	return rc;
}

/* What has come, into the chunk: 1 and its length, 0 at the end of the connection, or -1. Waits at most ms (< 0: no limit). */
static int receive(struct ws *ws, int64_t ms, size_t *ret_n, struct err *err)
{
	for (;;) {
		CURLcode code = curl_easy_recv(ws->handle.easy, ws->chunk, sizeof(ws->chunk), ret_n);
		struct fiber_scope scope;

		if (code == CURLE_OK)
			return *ret_n > 0;
		if (code != CURLE_AGAIN)
			return io_failed(ws, code, err);
		deadline_enter(&scope, ms < 0 ? DEADLINE_NONE : ms);
		int rc = fd_watch_wait(ws->watch, FD_READABLE, err);

		scope_leave(&scope);
		if (rc < 0)
			return -1;
	}
}

/* --- opening --- */

static int make_connection(struct ws *ws, struct err *err)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	bool hopeless;

	ws->handle.easy = http_easy_create(&ws->route, err);
	if (!ws->handle.easy)
		return -1;
	curl_easy_setopt(ws->handle.easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(ws->handle.easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	ws->client->stats.requests++;
	http_pool_add(&ws->client->long_calls, &ws->handle);
	ws->added = true;
	while (!ws->handle.done)
		if (event_wait(&ws->handle.event, err) < 0)
			return -1;
	if (ws->handle.code != CURLE_OK)
		return http_error_set(&ws->route, ws->handle.easy, ws->handle.code, false, 0, &hopeless, err);
	curl_easy_getinfo(ws->handle.easy, CURLINFO_ACTIVESOCKET, &fd);
	return fd_watch_create(fd, &ws->watch, err);
}

static int write_request(struct ws *ws, const struct ws_request *request, const char *key, struct err *err)
{
	const struct url *u = &ws->target.url;
	struct buf *out = &ws->out;

	buf_printf(out, "GET %s%s%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
			"Sec-WebSocket-Key: %s\r\nUser-Agent: %s\r\n",
		   u->path, u->query ? "?" : "", u->query ? u->query : "", ws->target.where, key, ws->client->user_agent);
	for (const struct http_header *h = request->headers; h && h->name; h++) {
		if (h->value && http_header_check(h, ws->target.where, err) < 0)
			return -1;
		if (h->value)
			buf_printf(out, "%s: %s\r\n", h->name, h->value);
	}
	buf_append_str(out, "\r\n");
	return 0;
}

static int cut_short(const struct ws *ws, struct err *err)
{
	return err_set(err, ERR_TRANSPORT, "the connection to %s was closed in the middle of the answer", ws->target.where);
}

/* The answer's head up to and with its blank line: its length. */
static int read_head(struct ws *ws, size_t *ret_len, struct err *err)
{
	for (;;) {
		const char *end = ws->in.len ? memmem(ws->in.data, ws->in.len, "\r\n\r\n", 4) : NULL;
		size_t n;

		if (end) {
			*ret_len = (size_t)(end - ws->in.data) + 4;
			return 0;
		}
		if (ws->in.len > HEAD_MAX)
			return err_set(err, ERR_PROTOCOL, "the answer of %s has too many headers", ws->target.where);
		int rc = receive(ws, -1, &n, err);

		if (rc <= 0)
			return rc < 0 ? -1 : cut_short(ws, err);
		buf_append(&ws->in, ws->chunk, n);
	}
}

static int parse_head(struct ws *ws, size_t len, struct http_response *response, struct err *err)
{
	const char *line = ws->in.data, *end = line + len;

	while (line < end) {
		const char *next = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;

		if (line == ws->in.data)
			response->status = http_status_of_line(line, (size_t)(next - line));
		else
			http_headers_add_line(&response->headers, line, (size_t)(next - line));
		line = next;
	}
	if (!response->status)
		return err_set(err, ERR_PROTOCOL, "the answer of %s is malformed", ws->target.where);
	return 0;
}

/* The body that says why, as far as its length is stated. */
static void read_refusal(struct ws *ws, struct http_response *refusal)
{
	const char *length = http_header(refusal, "Content-Length");
	size_t want = length ? strtoul(length, NULL, 10) : 0, n;

	if (want > REFUSAL_MAX)
		want = REFUSAL_MAX;
	while (ws->in.len < want && receive(ws, -1, &n, NULL) > 0)
		buf_append(&ws->in, ws->chunk, n);
	buf_append(&refusal->body, ws->in.data ? ws->in.data : "", ws->in.len < want ? ws->in.len : want);
}

static int upgrade(struct ws *ws, const struct ws_request *request, struct http_response *refusal, struct err *err)
{
	unsigned char random[WEBSOCKET_KEY_BYTES];
	char key[WEBSOCKET_KEY_SIZE], expected[WEBSOCKET_ACCEPT_SIZE];
	size_t head = 0;

	random_bytes(random, sizeof(random));
	websocket_key(random, key);
	websocket_accept(key, expected);
	refusal->sent = true;
	if (write_request(ws, request, key, err) < 0 || flush(ws, err) < 0 || read_head(ws, &head, err) < 0 ||
	    parse_head(ws, head, refusal, err) < 0)
		return -1;
	buf_consume(&ws->in, head);
	const char *accept = http_header(refusal, "Sec-WebSocket-Accept");

	if (refusal->status == 101 && accept && strcmp(accept, expected) == 0)
		return 0;
	if (refusal->status == 101)
		return err_set(err, ERR_PROTOCOL, "%s agreed to another WebSocket than was asked for", ws->target.where);
	read_refusal(ws, refusal);
	return err_set(err, ERR_REMOTE, "%s refused the WebSocket with HTTP %d", ws->target.where, refusal->status);
}

/* A phase with its own deadline, and words for it. */
static int open_in_time(struct ws *ws, const struct ws_request *request, struct http_response *refusal, struct err *err)
{
	int64_t ms = request->answer_ms ? request->answer_ms : WS_ANSWER_MS;
	struct fiber_scope scope;
	struct err failure = ERR_INIT;

	deadline_enter(&scope, ms);
	int rc = upgrade(ws, request, refusal, &failure);

	scope_leave(&scope);
	if (rc == 0)
		return 0;
	if (err_is(&failure, ERR_TIMEOUT)) {
		err_clear(&failure);
		err_set(&failure, ERR_TIMEOUT, "no answer from %s within %lld ms", ws->target.where, (long long)ms);
	}
	return err_move(err, &failure);
}

int ws_open(struct http_client *client, const struct ws_request *request, struct ws **ret, struct http_response *refusal, struct err *err)
{
	struct ws *ws = xcalloc(1, sizeof(*ws));

	*refusal = (struct http_response){.body = BUF_INIT(REFUSAL_MAX)};
	ws->client = client;
	ws->in = BUF_INIT(BUF_UNBOUNDED);
	ws->out = BUF_INIT(OUT_MAX);
	ws->ping_ms = request->ping_ms;
	ws->message_max = request->message_max ? request->message_max : WS_MESSAGE_MAX;
	ws->route = (struct http_route){
		.client = client,
		.target = &ws->target,
		.options = request->options,
		.connect_ms = request->connect_ms ? request->connect_ms : HTTP_CONNECT_MS,
	};
	if (http_target_init(&ws->target, request->url, true, err) < 0 || make_connection(ws, err) < 0 ||
	    open_in_time(ws, request, refusal, err) < 0) {
		buf_reset(&ws->out); /* no goodbye: it was never a WebSocket */
		ws->flushing = true;
		ws_close(ws);
		return -1;
	}
	*ret = ws;
	return 0;
}

/* --- frames --- */

static int queue(struct ws *ws, enum websocket_opcode opcode, const void *payload, size_t len, struct err *err)
{
	unsigned char mask[4];

	random_bytes(mask, sizeof(mask));
	if (websocket_write(&ws->out, opcode, mask, payload, len) < 0)
		return err_set(err, ERR_BUSY, "%s does not take what is sent over the WebSocket", ws->target.where);
	return 0;
}

int ws_send(struct ws *ws, enum websocket_opcode opcode, const void *payload, size_t len, struct err *err)
{
	return queue(ws, opcode, payload, len, err) < 0 ? -1 : flush(ws, err);
}

struct run {
	struct ws *ws;
	websocket_fn *on_message;
	void *arg;
	bool enough;
	int close_code; /* 0: not closed */
};

static int take(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err)
{
	struct run *run = arg;

	switch (opcode) {
	case WEBSOCKET_PING:
		return ws_send(run->ws, WEBSOCKET_PONG, payload, len, err);
	case WEBSOCKET_PONG:
		return 0;
	case WEBSOCKET_CLOSE:
		run->close_code = websocket_close_code(payload, len);
		return 0;
	case WEBSOCKET_TEXT:
	case WEBSOCKET_BINARY:
	case WEBSOCKET_CONTINUATION:
	default:
		break;
	}
	int rc = run->on_message(run->arg, opcode, payload, len, err);

	run->enough = rc > 0;
	return rc == 0 ? 0 : -1; /* also ends the codec's work on what came */
}

/* Waits for bytes; pings when it is silent for long. 1, 0 at the end, -1. */
static int receive_or_ping(struct ws *ws, size_t *ret_n, struct err *err)
{
	int64_t ms = ws->ping_ms > 0 ? ws->ping_ms : -1;
	cleanup_err struct err silence = ERR_INIT;
	int rc = receive(ws, ms, ret_n, &silence);

	if (rc >= 0 || ms < 0 || !err_is(&silence, ERR_TIMEOUT) || deadline_left_ms() == 0)
		return rc < 0 ? err_move(err, &silence) : rc;
	err_clear(&silence);
	if (ws_send(ws, WEBSOCKET_PING, "", 0, err) < 0)
		return -1;
	rc = receive(ws, ms, ret_n, &silence);
	if (rc < 0 && err_is(&silence, ERR_TIMEOUT) && deadline_left_ms() > 0)
		return err_set(err, ERR_TIMEOUT, "%s has been silent for %lld ms and does not answer a ping", ws->target.where, 2 * (long long)ms);
	return rc < 0 ? err_move(err, &silence) : rc;
}

int ws_run(struct ws *ws, websocket_fn *on_message, void *arg, int *ret_close_code, struct err *err)
{
	struct run run = {.ws = ws, .on_message = on_message, .arg = arg};
	struct websocket codec;
	size_t n = 0;

	websocket_init(&codec, ws->message_max, take, &run);
	int rc = websocket_feed(&codec, ws->in.data, ws->in.len, err);

	buf_wipe(&ws->in);
	while (rc == 0 && run.close_code == 0) {
		int got = receive_or_ping(ws, &n, err);

		if (got == 0)
			rc = err_set(err, ERR_TRANSPORT, "the WebSocket of %s was lost: its connection ended without a goodbye", ws->target.where);
		else
			rc = got < 0 ? -1 : websocket_feed(&codec, ws->chunk, n, err);
	}
	websocket_deinit(&codec);
	mem_wipe(ws->chunk, sizeof(ws->chunk));
	*ret_close_code = run.close_code;
	return run.enough ? 0 : rc;
}

void ws_close(struct ws *ws)
{
	size_t n;

	if (!ws)
		return;
	if (!ws->flushing && queue(ws, WEBSOCKET_CLOSE, "\x03\xE8", 2, NULL) == 0)
		curl_easy_send(ws->handle.easy, ws->out.data, ws->out.len, &n);
	fd_watch_destroy(ws->watch);
	if (ws->added)
		http_pool_remove(&ws->client->long_calls, &ws->handle);
	curl_easy_cleanup(ws->handle.easy);
	http_target_deinit(&ws->target);
	buf_wipe(&ws->in);
	buf_wipe(&ws->out);
	free(ws);
}
