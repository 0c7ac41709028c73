/*
 * One attempt. The fiber configures a handle, gives it to a pool and waits; curl's callbacks note what comes and wake it. It then, in
 * turn: hands pieces of the answer to the consumer, looks whether the transfer is done, looks whether a deadline has passed. Whatever
 * ends it, the handle is removed at once, from here.
 *
 * The answer's body: collected ones go straight to response.body; of streamed ones at most INBOX_MAX wait in `inbox`, then curl pauses
 * the transfer (and with it the service) until the consumer has taken them.
 *
 * curl repeats a request by itself when a kept connection turns out to be dead before an answer came. The service may have carried it
 * out for all that, so on_request lets this pass only for what may be done twice.
 */
#include "http_internal.h"

#include "base/mem.h"
#include "base/str.h"

#include <string.h>

#define INBOX_MAX 65536
#define UPLOAD_BUFFER 65536L
#define BYTES_AT_ONCE_MAX 65536 /* bigger bodies are read piece by piece, so that their progress is seen */
#define PAUSED_LOOK_MS 1000
#define BODY_ON_ERROR_MAX ((size_t)1 << 20) /* of a refusal in place of a stream */

struct transfer {
	struct http_handle handle;
	struct http_pool *pool;
	struct http_ticket ticket;
	const struct http_request *request;
	struct http_response *response;
	struct http_outcome *outcome;
	struct http_route route;
	struct http_upload upload;
	struct fiber_group fibers; /* of the upload */
	struct curl_slist *headers;
	struct buf inbox;
	unsigned requests;   /* how often curl has sent it */
	int64_t moved_ms;    /* when something last went out or came in */
	bool answering;      /* the answer has begun */
	bool headers_done;
	bool taken;          /* it is decided what becomes of the body */
	enum http_take take;
	bool enough;         /* the consumer wants no more */
	enum { FINE, HEADERS_TOO_BIG, BODY_TOO_BIG, NOT_HTTP2 } refused;
};

static bool is_streaming(const struct http_request *request)
{
	return request->on_body != NULL;
}

/* --- curl's callbacks --- */

static bool is_idempotent(const struct http_request *request)
{
	static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};

	if (request->retry.repeat == HTTP_REPEAT_IDEMPOTENT)
		return true;
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		if (request->retry.repeat != HTTP_REPEAT_NEVER && strcmp(request->method, methods[i]) == 0)
			return true;
	return false;
}

/* The connection is there, the request goes out. */
static int on_request(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	struct transfer *t = arg;

	if (t->requests > 0 && !is_idempotent(t->request))
		return CURL_PREREQFUNC_ABORT;
	t->requests++;
	t->outcome->sent = t->response->sent = true;
	t->moved_ms = loop_now_ms();
	http_lane_connected(&t->ticket, local_port);
	event_set(&t->handle.event); /* from here on its silence is measured */
	return CURL_PREREQFUNC_OK;
}

static size_t on_read(char *room, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;

	t->moved_ms = loop_now_ms();
	return http_upload_on_read(room, size, count, &t->upload);
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct transfer *t = arg;

	return http_upload_on_seek(&t->upload, offset, origin);
}

static void end_headers(struct transfer *t)
{
	/* An interim answer (100 Continue, 103 Early Hints) is followed by another. */
	if (t->response->status < 200)
		return;
	t->headers_done = true;
	event_set(&t->handle.event);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;
	int status = http_status_of_line(line, len);

	t->moved_ms = loop_now_ms();
	if (t->headers_done) {
		if (http_headers_add_line(&t->response->trailers, line, len) == 0)
			return len;
		t->refused = HEADERS_TOO_BIG;
		return 0;
	}
	if (!t->answering)
		event_set(&t->handle.event); /* another deadline runs now */
	t->answering = true;
	if (status) {
		if (len > 7 && line[5] == '1') {
			http_lane_is_serial(&t->ticket);
			if (t->request->http2_only) {
				t->refused = NOT_HTTP2;
				return 0;
			}
		}
		http_headers_deinit(&t->response->headers);
		t->response->status = status;
	} else if (len <= 2 && (*line == '\r' || *line == '\n')) {
		end_headers(t);
	} else if (http_headers_add_line(&t->response->headers, line, len) < 0) {
		t->refused = HEADERS_TOO_BIG;
		return 0;
	}
	return len;
}

static size_t on_data(char *bytes, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;

	t->moved_ms = loop_now_ms();
	if (is_streaming(t->request)) {
		if (t->inbox.len > 0 && t->inbox.len + len > INBOX_MAX) {
			t->handle.receive_paused = true;
			t->pool->paused++;
			event_set(&t->handle.event);
			return CURL_WRITEFUNC_PAUSE;
		}
		buf_append(&t->inbox, bytes, len);
		event_set(&t->handle.event);
		return len;
	}
	if (buf_append(&t->response->body, bytes, len) < 0) {
		t->refused = BODY_TOO_BIG;
		return 0;
	}
	return len;
}

/* --- configuring --- */

static void add_header(struct transfer *t, const char *name, const char *value)
{
	/* curl drops a header without a value unless a semicolon says that it is meant. */
	cleanup_free char *line = *value ? xasprintf("%s: %s", name, value) : xasprintf("%s;", name);
	struct curl_slist *longer = curl_slist_append(t->headers, line);

	if (!longer)
		abort(); /* out of memory */
	mem_wipe(line, strlen(line));
	t->headers = longer;
}

static void suppress_header(struct transfer *t, const char *name)
{
	cleanup_free char *line = xasprintf("%s:", name);

	t->headers = curl_slist_append(t->headers, line);
}

static int set_headers(struct transfer *t, struct err *err)
{
	bool has_content_type = false, has_user_agent = false;

	for (const struct http_header *h = t->request->headers; h && h->name; h++) {
		if (!h->value)
			continue;
		if (http_header_check(h, t->route.target->where, err) < 0)
			return -1;
		has_content_type = has_content_type || strcasecmp(h->name, "Content-Type") == 0;
		has_user_agent = has_user_agent || strcasecmp(h->name, "User-Agent") == 0;
		add_header(t, h->name, h->value);
	}
	if (!has_content_type)
		suppress_header(t, "Content-Type");
	if (!has_user_agent)
		add_header(t, "User-Agent", t->route.client->user_agent);
	suppress_header(t, "Expect"); /* curl would wait for a second before it sends big bodies */
	curl_easy_setopt(t->handle.easy, CURLOPT_HTTPHEADER, t->headers);
	return 0;
}

static bool wants_body(const char *method)
{
	return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
}

static void set_body(struct transfer *t)
{
	CURL *easy = t->handle.easy;
	const struct http_piece *bytes = http_upload_bytes(&t->upload);
	const char *method = t->request->method;

	if (strcmp(method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (t->upload.size == 0 && !wants_body(method)) {
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	} else if (bytes && bytes->size <= BYTES_AT_ONCE_MAX) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, bytes->size ? bytes->bytes : "");
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)bytes->size);
	} else {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->upload.size);
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

static int configure(struct transfer *t, struct err *err)
{
	CURL *easy = t->handle.easy = http_easy_create(&t->route, err);

	if (!easy || http_upload_init(&t->upload, &t->request->body, &t->handle, err) < 0 || set_headers(t, err) < 0)
		return -1;
	set_body(t);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	/* Not for streams: what is compressed comes in bigger lumps, and later. */
	if (!is_streaming(t->request) && !t->request->http2_only)
		curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	return 0;
}

/* --- the answer --- */

static int decide(struct transfer *t, struct err *err)
{
	const struct http_request *request = t->request;

	t->taken = true;
	t->take = http_is_success(t->response) ? HTTP_STREAM : HTTP_COLLECT;
	if (request->on_answer && request->on_answer(request->arg, t->response, &t->take, err) < 0)
		return -1;
	return 0;
}

static int consume(struct transfer *t, const struct buf *piece, struct err *err)
{
	if (t->take == HTTP_COLLECT) {
		if (buf_append(&t->response->body, piece->data, piece->len) == 0)
			return 0;
		t->refused = BODY_TOO_BIG;
		return -1;
	}
	t->outcome->consumed = true;
	int rc = t->request->on_body(t->request->arg, piece->data, piece->len, err);

	t->enough = rc > 0;
	return rc < 0 ? -1 : 0;
}

/* Gives the consumer what has come. Waits as it does. */
static int deliver(struct transfer *t, struct err *err)
{
	if (!t->headers_done || !is_streaming(t->request))
		return 0;
	if (!t->taken && decide(t, err) < 0)
		return -1;
	while (t->inbox.len > 0 && !t->enough) {
		struct buf piece = t->inbox;

		/* curl goes on filling an inbox of its own while the consumer is busy with this one. */
		t->inbox = BUF_INIT(BUF_UNBOUNDED);
		int rc = consume(t, &piece, err);

		buf_wipe(&piece);
		t->moved_ms = loop_now_ms(); /* the consumer's time is not the service's */
		if (rc < 0)
			return -1;
	}
	if (t->handle.receive_paused) {
		t->pool->paused--;
		http_handle_resume_receiving(&t->handle);
	}
	return 0;
}

/* --- waiting --- */

/* The deadline that runs at present; 0: none. */
static int64_t silence_limit(const struct transfer *t)
{
	const struct http_deadlines *d = &t->request->deadlines;

	if (t->requests == 0 || t->handle.send_paused)
		return 0;
	return t->answering ? d->idle_ms : d->first_byte_ms;
}

static int too_silent(const struct transfer *t, int64_t limit, struct err *err)
{
	if (t->answering)
		return err_set(err, ERR_TIMEOUT, "the answer of %s stalled: nothing came for %lld ms", t->route.target->where, (long long)limit);
	return err_set(err, ERR_TIMEOUT, "no answer from %s within %lld ms", t->route.target->where, (long long)limit);
}

/*
 * Waits for the next event. -1: a deadline, or the fiber's end. While the consumer of some transfer of the pool is behind, its connection
 * is not read, and others share it: then silence means nothing.
 */
static int wait_for_more(struct transfer *t, struct err *err)
{
	int64_t limit = silence_limit(t), left = -1;
	bool set;

	if (t->pool->paused > 0 || (t->headers_done && t->handle.send_paused)) {
		t->moved_ms = loop_now_ms();
		left = PAUSED_LOOK_MS;
	} else if (limit > 0) {
		left = t->moved_ms + limit - loop_now_ms();
		if (left <= 0)
			return too_silent(t, limit, err);
	}
	return event_wait_for(&t->handle.event, left, &set, err);
}

static int fail(struct transfer *t, CURLcode code, struct err *err)
{
	const char *where = t->route.target->where;

	if (t->refused == HEADERS_TOO_BIG) {
		t->outcome->hopeless = true;
		return err_set(err, ERR_PROTOCOL, "the answer of %s has too many headers", where);
	}
	if (t->refused == BODY_TOO_BIG) {
		t->outcome->hopeless = true;
		return err_set(err, ERR_PROTOCOL, "the answer of %s is bigger than %zu bytes", where, t->response->body.max);
	}
	if (t->refused == NOT_HTTP2) {
		t->outcome->hopeless = true;
		return err_set(err, ERR_PROTOCOL, "%s answers in HTTP/1, and HTTP/2 is needed: is there a proxy on the way that reads TLS?",
			       where);
	}
	if (t->upload.cut_short) {
		t->outcome->hopeless = true;
		return err_set(err, ERR_INVALID, "the request's body ended before its announced size");
	}
	t->response->http2_error = http_error_http2(&t->route, code);
	return http_error_set(&t->route, t->handle.easy, code, t->requests > 0, t->response->status, &t->outcome->hopeless, err);
}

static int run(struct transfer *t, struct err *err)
{
	for (;;) {
		if (deliver(t, err) < 0)
			return t->refused ? fail(t, CURLE_OK, err) : -1;
		if (t->enough)
			return 0;
		if (t->upload.err.kind != ERR_NONE && !t->handle.done)
			return err_move(err, &t->upload.err);
		if (t->handle.done && t->inbox.len == 0) {
			/* libcurl takes headers that end with the connection for an answer without a body. */
			if (t->handle.code == CURLE_OK && !t->headers_done)
				return fail(t, CURLE_PARTIAL_FILE, err);
			return t->handle.code == CURLE_OK ? 0 : fail(t, t->handle.code, err);
		}
		/* An answer may come, and end, before the body was sent. libcurl sees that only while sending is not paused. */
		if (t->headers_done)
			http_handle_resume_sending(&t->handle);
		if (!t->handle.done && wait_for_more(t, err) < 0)
			return -1;
	}
}

static void end_upload(struct transfer *t)
{
	struct fiber_scope scope;

	t->handle.done = true; /* the upload's fiber may not touch it any more */
	shield_enter(&scope, DEADLINE_NONE);
	fiber_group_cancel(&t->fibers);
	fiber_group_join(&t->fibers, NULL);
	scope_leave(&scope);
	t->outcome->consumed = t->outcome->consumed || t->upload.source_used;
}

static void wipe_headers(struct curl_slist *headers)
{
	for (struct curl_slist *h = headers; h; h = h->next)
		mem_wipe(h->data, strlen(h->data));
	curl_slist_free_all(headers);
}

static void deinit(struct transfer *t)
{
	if (t->handle.receive_paused)
		t->pool->paused--;
	curl_easy_cleanup(t->handle.easy);
	http_upload_deinit(&t->upload);
	wipe_headers(t->headers);
	buf_wipe(&t->inbox);
}

static size_t body_max(const struct http_request *request)
{
	if (request->body_max)
		return request->body_max;
	return is_streaming(request) ? BODY_ON_ERROR_MAX : HTTP_BODY_MAX;
}

/* Plain connections, to this machine, need no turn: each call has its own. */
static int enter_lane(struct transfer *t, struct err *err)
{
	const struct http_options *options = t->request->options;

	if (strcmp(t->route.target->url.scheme, "https") != 0)
		return 0;
	cleanup_free char *key = xasprintf("%s|%s|%s|%s", t->route.target->where, options && options->proxy_url ? options->proxy_url : "",
					   options && options->ca_file ? options->ca_file : "",
					   options && options->cert_file ? options->cert_file : "");

	return http_lane_enter(&t->pool->lanes, key, t->pool->lane_connections, &t->ticket, err);
}

static int perform(struct transfer *t, struct err *err)
{
	struct err failure = ERR_INIT;

	if (http_lane_wants_new(&t->ticket))
		curl_easy_setopt(t->handle.easy, CURLOPT_FRESH_CONNECT, 1L);
	t->route.client->stats.requests++;
	http_pool_add(t->pool, &t->handle);
	if (http_upload_has_source(&t->upload))
		fiber_group_start(&t->fibers, http_upload_fill, &t->upload);
	int rc = run(t, &failure);
	bool unconnected = rc < 0 && t->handle.done && t->requests == 0;

	end_upload(t);
	http_pool_remove(t->pool, &t->handle);
	http_lane_leave(&t->ticket, unconnected ? &failure : NULL);
	return rc < 0 ? err_move(err, &failure) : 0;
}

int http_transfer(struct http_client *client, const struct http_request *request, const struct http_target *target,
		  struct http_response *response, struct http_outcome *ret, struct err *err)
{
	/* Not on the fiber's small stack. */
	struct transfer *t = xcalloc(1, sizeof(*t));
	int rc = -1;

	t->pool = request->long_lived || is_streaming(request) ? &client->long_calls : &client->short_calls;
	t->request = request;
	t->response = response;
	t->outcome = ret;
	t->inbox = BUF_INIT(BUF_UNBOUNDED);
	t->route = (struct http_route){
		.client = client,
		.target = target,
		.options = request->options,
		.ticket = &t->ticket,
		.connect_ms = request->deadlines.connect_ms ? request->deadlines.connect_ms : HTTP_CONNECT_MS,
		.http2_only = request->http2_only,
	};
	response->body.max = body_max(request);
	fiber_group_init(&t->fibers);
	if (configure(t, err) < 0)
		ret->hopeless = true;
	else if (enter_lane(t, err) == 0)
		rc = perform(t, err);
	deinit(t);
	free(t);
	return rc;
}
