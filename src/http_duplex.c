/*
 * As in ws.c, a libcurl handle that only connects gives a socket, with TLS where the URL says so, and bytes go by curl_easy_send and
 * curl_easy_recv. The input is sent by a fiber of its own: that it cannot be sent any more never keeps the answer from being read.
 */
#include "http_duplex.h"

#include "base/mem.h"
#include "fd_watch.h"
#include "http_internal.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HEAD_MAX 65536
#define REFUSAL_MAX 65536
#define CHUNK_BYTES 65536

struct duplex {
	const struct http_duplex_request *request;
	struct http_client *client;
	struct http_handle handle;
	struct http_route route;
	struct http_target target;
	struct fd_watch *watch;
	curl_socket_t fd;
	bool added;     /* to the pool */
	struct buf in;  /* the head, and what came behind it */
	bool enough;
	int64_t tick_at_ms;
	char chunk[CHUNK_BYTES];  /* received */
	char staged[CHUNK_BYTES]; /* of the input, when it is a descriptor */
};

static int io_failed(struct duplex *d, CURLcode code, int status, struct err *err)
{
	bool hopeless;

	return http_error_set(&d->route, d->handle.easy, code, true, status, &hopeless, err);
}

/* --- out --- */

static int send_all(struct duplex *d, const char *bytes, size_t n, struct err *err)
{
	while (n > 0) {
		size_t sent = 0;
		CURLcode code = curl_easy_send(d->handle.easy, bytes, n, &sent);

		if (code == CURLE_AGAIN) {
			if (fd_watch_wait(d->watch, FD_WRITABLE, err) < 0)
				return -1;
		} else if (code != CURLE_OK) {
			return io_failed(d, code, 0, err);
		}
		bytes += sent;
		n -= sent;
	}
	return 0;
}

static int send_descriptor(struct duplex *d, int fd, struct err *err)
{
	struct fd_watch *watch = NULL;
	struct stat st;
	bool is_file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	off_t offset = 0;
	int rc = is_file ? 0 : fd_watch_create_shared(fd, &watch, err);

	while (rc == 0) {
		if (watch && (rc = fd_watch_wait(watch, FD_READABLE, err)) < 0)
			break;
		ssize_t n = is_file ? pread(fd, d->staged, sizeof(d->staged), offset) : read(fd, d->staged, sizeof(d->staged));

		if (n == 0)
			break;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			rc = err_set_errno(err, errno, "read the command's input");
		if (n > 0) {
			offset += n;
			rc = send_all(d, d->staged, (size_t)n, err);
		}
	}
	fd_watch_destroy(watch);
	mem_wipe(d->staged, sizeof(d->staged));
	return rc;
}

/* A fiber's function. That it fails is nobody's fault: the answer tells. */
static void send_input(void *arg)
{
	struct duplex *d = arg;
	struct input *input = d->request->input;
	int rc = 0;

	if (input->taken < input->len)
		rc = send_all(d, input->data + input->taken, input->len - input->taken, NULL);
	input->taken = input->len;
	if (rc == 0 && input->fd >= 0)
		rc = send_descriptor(d, input->fd, NULL);
	if (rc == 0 && !input->stays_open && strcmp(d->target.url.scheme, "http") == 0)
		shutdown(d->fd, SHUT_WR);
}

static int send_request(struct duplex *d, struct err *err)
{
	const struct http_duplex_request *r = d->request;
	const struct url *u = &d->target.url;
	cleanup_free char *host = url_host_port(u);
	struct buf out = BUF_INIT(BUF_UNBOUNDED);
	int rc = 0;

	buf_printf(&out, "%s %s%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Length: %zu\r\n", r->method, u->path, u->query ? "?" : "",
		   u->query ? u->query : "", host, d->client->user_agent, r->body_len);
	for (const struct http_header *h = r->headers; rc == 0 && h && h->name; h++) {
		rc = h->value ? http_header_check(h, d->target.where, err) : 0;
		if (rc == 0 && h->value)
			buf_printf(&out, "%s: %s\r\n", h->name, h->value);
	}
	buf_append_str(&out, "\r\n");
	buf_append(&out, r->body, r->body_len);
	if (rc == 0)
		rc = send_all(d, out.data, out.len, err);
	buf_wipe(&out);
	return rc;
}

/* --- in --- */

static int tick(struct duplex *d, struct err *err)
{
	int rc = d->request->on_tick(d->request->arg, err);

	d->tick_at_ms = loop_now_ms() + d->request->tick_ms;
	d->enough = rc > 0;
	return rc < 0 ? -1 : 0;
}

/* Waits until there is something to read, and ticks meanwhile if the stream is open. */
static int wait_readable(struct duplex *d, bool ticking, struct err *err)
{
	while (!d->enough) {
		struct fiber_scope scope;
		cleanup_err struct err e = ERR_INIT;
		int64_t left = d->tick_at_ms - loop_now_ms();

		if (ticking && left <= 0) {
			if (tick(d, err) < 0)
				return -1;
			continue;
		}
		deadline_enter(&scope, ticking ? left : DEADLINE_NONE);
		int rc = fd_watch_wait(d->watch, FD_READABLE, &e);

		scope_leave(&scope);
		if (rc == 0)
			return 0;
		if (!ticking || !err_is(&e, ERR_TIMEOUT) || deadline_left_ms() == 0)
			return err_move(err, &e);
	}
	return 0;
}

/* What has come, into the chunk: 1 and its length, 0 at the end of the stream, or -1. */
static int receive(struct duplex *d, bool open, size_t *ret_n, struct err *err)
{
	while (!d->enough) {
		CURLcode code = curl_easy_recv(d->handle.easy, d->chunk, sizeof(d->chunk), ret_n);

		if (code == CURLE_OK)
			return *ret_n > 0;
		if (code == CURLE_RECV_ERROR && open && d->request->input)
			return 0;
		if (code != CURLE_AGAIN)
			return io_failed(d, code, open ? 200 : 0, err);
		if (wait_readable(d, open && d->request->tick_ms > 0, err) < 0)
			return -1;
	}
	return 0;
}

static int read_more(struct duplex *d, struct err *err)
{
	size_t n = 0;
	int rc = receive(d, /* open= */ false, &n, err);

	if (rc == 0)
		return err_set(err, ERR_TRANSPORT, "socket hang up (%s)", d->target.where);
	buf_append(&d->in, d->chunk, n);
	return rc < 0 ? -1 : 0;
}

/* Reads the answer's head and takes it out of `in`. Interim answers are passed over; 101 is the answer. */
static int read_head(struct duplex *d, struct http_response *response, struct err *err)
{
	for (;;) {
		const char *end = d->in.len ? memmem(d->in.data, d->in.len, "\r\n\r\n", 4) : NULL;

		if (!end && d->in.len > HEAD_MAX)
			return err_set(err, ERR_PROTOCOL, "the answer of %s has too many headers", d->target.where);
		if (!end) {
			if (read_more(d, err) < 0)
				return -1;
			continue;
		}
		size_t len = (size_t)(end - d->in.data) + 4;
		const char *line = d->in.data, *next;

		http_headers_deinit(&response->headers);
		response->status = 0;
		for (; line < end + 2; line = next) {
			next = (const char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1;
			if (!response->status && !(response->status = http_status_of_line(line, (size_t)(next - line))))
				return err_set(err, ERR_PROTOCOL, "the answer of %s is malformed", d->target.where);
			http_headers_add_line(&response->headers, line, (size_t)(next - line));
		}
		buf_consume(&d->in, len);
		if (response->status == 101 || response->status >= 200)
			return 0;
	}
}

/* A refusal's body: of its length, or in chunks, of which the bytes between the lines with sizes are taken. */
static void read_refusal(struct duplex *d, struct http_response *response)
{
	const char *length = http_header(response, "Content-Length"), *coding = http_header(response, "Transfer-Encoding");
	bool chunked = coding && strcasecmp(coding, "chunked") == 0;
	size_t want = length ? strtoul(length, NULL, 10) : chunked ? REFUSAL_MAX : 0;

	want = want < REFUSAL_MAX ? want : REFUSAL_MAX;
	while (d->in.len < want && !(chunked && d->in.len >= 5 && memcmp(d->in.data + d->in.len - 5, "0\r\n\r\n", 5) == 0)) {
		if (read_more(d, NULL) < 0)
			break;
	}
	if (!chunked) {
		buf_append(&response->body, d->in.data ? d->in.data : "", d->in.len < want ? d->in.len : want);
		return;
	}
	for (size_t at = 0; at < d->in.len;) {
		char *after = NULL;
		size_t n = strtoul(d->in.data + at, &after, 16);
		size_t start = (size_t)(after - d->in.data) + 2;

		if (n == 0 || start > d->in.len || n > d->in.len - start)
			break;
		buf_append(&response->body, d->in.data + start, n);
		at = start + n + 2;
	}
}

static int take(struct duplex *d, const char *bytes, size_t n, struct err *err)
{
	int rc = n > 0 ? d->request->on_body(d->request->arg, bytes, n, err) : 0;

	d->enough = rc > 0;
	return rc < 0 ? -1 : 0;
}

static int read_stream(struct duplex *d, struct err *err)
{
	size_t n = 0;
	int rc = take(d, d->in.data, d->in.len, err);

	buf_wipe(&d->in);
	while (rc == 0 && !d->enough) {
		int got = receive(d, /* open= */ true, &n, err);

		if (got <= 0)
			return got;
		rc = take(d, d->chunk, n, err);
		/* A busy stream ticks too. */
		if (rc == 0 && !d->enough && d->request->tick_ms > 0 && loop_now_ms() >= d->tick_at_ms)
			rc = tick(d, err);
	}
	return rc;
}

/* --- the call --- */

static int connect_socket(struct duplex *d, struct err *err)
{
	bool hopeless;

	d->handle.easy = http_easy_create(&d->route, err);
	if (!d->handle.easy)
		return -1;
	curl_easy_setopt(d->handle.easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(d->handle.easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	d->client->stats.requests++;
	http_pool_add(&d->client->long_calls, &d->handle);
	d->added = true;
	while (!d->handle.done)
		if (event_wait(&d->handle.event, err) < 0)
			return -1;
	if (d->handle.code != CURLE_OK)
		return http_error_set(&d->route, d->handle.easy, d->handle.code, false, 0, &hopeless, err);
	curl_easy_getinfo(d->handle.easy, CURLINFO_ACTIVESOCKET, &d->fd);
	return fd_watch_create(d->fd, &d->watch, err);
}

static int ask(struct duplex *d, struct http_response *response, struct err *err)
{
	int64_t ms = d->request->answer_ms ? d->request->answer_ms : HTTP_DUPLEX_ANSWER_MS;
	struct fiber_scope scope;
	struct err e = ERR_INIT;

	response->sent = true;
	deadline_enter(&scope, ms);
	int rc = send_request(d, &e) < 0 ? -1 : read_head(d, response, &e);

	if (rc == 0 && response->status != 101 && !http_is_success(response))
		read_refusal(d, response);
	scope_leave(&scope);
	if (rc < 0 && err_is(&e, ERR_TIMEOUT) && deadline_left_ms() > 0) {
		err_clear(&e);
		return err_set(err, ERR_TIMEOUT, "no answer from %s within %lld ms", d->target.where, (long long)ms);
	}
	return rc < 0 ? err_move(err, &e) : 0;
}

static int run(struct duplex *d, struct err *err)
{
	struct fiber_group group;
	struct fiber_scope scope;

	if (d->request->on_open)
		d->request->on_open(d->request->arg);
	d->tick_at_ms = loop_now_ms() + d->request->tick_ms;
	fiber_group_init(&group);
	if (d->request->input)
		fiber_group_start(&group, send_input, d);
	int rc = read_stream(d, err);

	fiber_group_cancel(&group);
	shield_enter(&scope, DEADLINE_NONE);
	fiber_group_join(&group, NULL);
	scope_leave(&scope);
	return rc;
}

static void deinit(struct duplex *d)
{
	fd_watch_destroy(d->watch);
	if (d->added)
		http_pool_remove(&d->client->long_calls, &d->handle);
	curl_easy_cleanup(d->handle.easy);
	http_target_deinit(&d->target);
	buf_wipe(&d->in);
	mem_wipe(d->chunk, sizeof(d->chunk));
	free(d);
}

int http_duplex(struct http_client *client, const struct http_duplex_request *request, struct http_response *response, struct err *err)
{
	/* Not on the fiber's small stack. */
	struct duplex *d = xcalloc(1, sizeof(*d));
	int rc = -1;

	*response = (struct http_response){.http2_error = -1, .body = BUF_INIT(REFUSAL_MAX)};
	d->request = request;
	d->client = client;
	d->in = BUF_INIT(BUF_UNBOUNDED);
	d->route = (struct http_route){
		.client = client,
		.target = &d->target,
		.options = request->options,
		.connect_ms = request->connect_ms ? request->connect_ms : HTTP_CONNECT_MS,
	};
	if (http_target_init(&d->target, request->url, false, err) == 0) {
		http_target_use_options(&d->target, request->options);
		rc = connect_socket(d, err) < 0 || ask(d, response, err) < 0 ? -1 : 0;
	}
	if (rc == 0 && (response->status == 101 || http_is_success(response)))
		rc = run(d, err);
	buf_append(&response->body, "", 0);
	deinit(d);
	return rc;
}
