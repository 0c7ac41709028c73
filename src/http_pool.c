/*
 * libcurl's multi handle, driven by socket actions (curl_multi_socket_action(3)): curl says which sockets it wants to be told about and
 * when its next timer is due; we tell it, and then read which transfers are done. What is done is only noted here and its fiber woken:
 * handles are removed by their fibers, never from inside curl.
 *
 * After every action, timeouts included, the messages are read: the last transfer may have ended by a timeout. A failed poll is passed
 * on as CURL_CSELECT_ERR; together with CURL_CSELECT_IN at first, so that curl reads the socket's error (a reset, say) and names it.
 */
#include "http_internal.h"

#include "base/mem.h"

#include <assert.h>

/* The most that a service may have at once on one HTTP/2 connection; many allow fewer. Then a further connection is opened. */
#define STREAMS_MAX 250

struct watch {
	uv_poll_t poll;
	struct http_pool *pool;
	curl_socket_t fd;
	int events; /* that curl waits for */
	bool failed;
};

static void on_freed(uv_handle_t *handle)
{
	free(handle->data);
}

static void read_messages(struct http_pool *pool)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(pool->multi, &left))) {
		struct http_handle *handle = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode code = message->data.result;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&handle);
		handle->done = true;
		handle->code = code;
		event_set(&handle->event);
	}
}

static void act(struct http_pool *pool, curl_socket_t fd, int events)
{
	int running;
	CURLMcode rc = curl_multi_socket_action(pool->multi, fd, events, &running);

	/* What else it can say is a misuse of ours. */
	assert(rc == CURLM_OK || rc == CURLM_BAD_SOCKET);
	(void)rc;
	read_messages(pool);
}

static void on_timer(uv_timer_t *timer)
{
	struct http_pool *pool = timer->data;

	act(pool, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer_wanted(CURLM *multi, long ms, void *arg)
{
	struct http_pool *pool = arg;

	(void)multi;
	if (ms < 0)
		uv_timer_stop(pool->timer);
	else
		uv_timer_start(pool->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_poll_error(struct watch *watch)
{
	act(watch->pool, watch->fd, watch->failed ? CURL_CSELECT_ERR : CURL_CSELECT_ERR | CURL_CSELECT_IN);
	watch->failed = true;
	/* libuv has stopped it. Where curl still wants to know, it gets one more error, and a plain one. */
	if (!uv_is_closing((uv_handle_t *)&watch->poll))
		uv_poll_start(&watch->poll, watch->events, on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	int action = 0;

	if (status < 0) {
		on_poll_error(watch);
		return;
	}
	if (events & UV_READABLE)
		action |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		action |= CURL_CSELECT_OUT;
	act(watch->pool, watch->fd, action);
}

static struct watch *watch_create(struct http_pool *pool, curl_socket_t fd)
{
	struct watch *watch = xcalloc(1, sizeof(*watch));

	watch->pool = pool;
	watch->fd = fd;
	if (uv_poll_init_socket(scheduler_loop(), &watch->poll, fd) < 0) {
		free(watch);
		return NULL;
	}
	watch->poll.data = watch;
	curl_multi_assign(pool->multi, fd, watch);
	return watch;
}

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct http_pool *pool = arg;
	struct watch *watch = known;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watch) {
			curl_multi_assign(pool->multi, fd, NULL);
			uv_close((uv_handle_t *)&watch->poll, on_freed);
		}
		return 0;
	}
	if (!watch && !(watch = watch_create(pool, fd)))
		return -1; /* curl fails its transfers */
	watch->events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	return uv_poll_start(&watch->poll, watch->events, on_poll) < 0 ? -1 : 0;
}

void http_pool_init(struct http_pool *pool, struct http_client *client, const struct http_pool_limits *limits)
{
	*pool = (struct http_pool){.client = client, .multi = curl_multi_init(), .timer = xcalloc(1, sizeof(uv_timer_t))};
	if (!pool->multi)
		abort(); /* out of memory */
	uv_timer_init(scheduler_loop(), pool->timer);
	pool->timer->data = pool;
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)STREAMS_MAX);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_HOST_CONNECTIONS, limits->per_host);
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limits->total);
	/* All may be kept when they are idle: else a burst would close and open them in turn. They are too old after a minute. */
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, limits->total);
	list_init(&pool->lanes);
	pool->lane_connections = limits->per_lane;
}

void http_pool_deinit(struct http_pool *pool)
{
	assert(pool->transfers == 0);
	curl_multi_cleanup(pool->multi); /* closes connections, and so still calls on_socket_wanted */
	http_lanes_deinit(&pool->lanes);
	pool->timer->data = pool->timer;
	uv_close((uv_handle_t *)pool->timer, on_freed);
}

void http_pool_add(struct http_pool *pool, struct http_handle *handle)
{
	curl_easy_setopt(handle->easy, CURLOPT_PRIVATE, handle);
	pool->transfers++;
	CURLMcode rc = curl_multi_add_handle(pool->multi, handle->easy);

	if (rc != CURLM_OK)
		abort(); /* out of memory; the rest is a misuse of ours */
}

void http_pool_remove(struct http_pool *pool, struct http_handle *handle)
{
	curl_multi_remove_handle(pool->multi, handle->easy);
	pool->transfers--;
}

static void resume(struct http_handle *handle)
{
	int paused = (handle->receive_paused ? CURLPAUSE_RECV : 0) | (handle->send_paused ? CURLPAUSE_SEND : 0);
	CURLcode code = handle->done ? CURLE_OK : curl_easy_pause(handle->easy, paused);

	if (code != CURLE_OK) {
		handle->done = true;
		handle->code = code;
		event_set(&handle->event);
	}
}

void http_handle_resume_receiving(struct http_handle *handle)
{
	if (!handle->receive_paused)
		return;
	handle->receive_paused = false;
	resume(handle);
}

void http_handle_resume_sending(struct http_handle *handle)
{
	if (!handle->send_paused)
		return;
	handle->send_paused = false;
	resume(handle);
}
