/*
 * When many calls for one HTTP/2 service come at once, libcurl opens a connection for each that finds no free stream at that moment. So
 * calls are let in as connections come into use: a hundred for each (few services allow less at once), and when these are not enough,
 * one that brings a further connection into use while the others wait for it. Calls that wait for a connection that cannot be opened
 * fail as the one that tried: else they would find out one after the other.
 *
 * The further connection may be one that idles, of an earlier burst. If there is none, a new one is asked for: else libcurl would take
 * the first stream that has come free, and all would share the few connections that there are. (libcurl 7.88 resets each stream that
 * has ended, and a service that counts such resets as an attack hangs up after a thousand of them on one connection.)
 *
 * A service that turns out to speak HTTP/1 only needs a connection for each call anyway: its calls are let in at once, and the pool's
 * limit is what bounds them.
 */
#include "http_internal.h"

#include "base/mem.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#define STREAMS_EACH 100
#define IDLE_LANES_MAX 128 /* whose services are known to speak HTTP/1 */

struct http_lane {
	struct list link;
	char *key; /* owned */
	bool serial;
	bool opening;                          /* somebody brings a connection into use */
	unsigned connections, connections_max; /* in use since there are calls */
	unsigned active;
	struct list waits;
	struct list sockets;
};

/* A connection, or an attempt at one. */
struct lane_socket {
	struct list link;
	int fd;
	bool used; /* it counts as one of the lane's connections */
};

struct lane_wait {
	struct list link;
	struct event event;
	bool admitted, opens;
	struct err err; /* of the connection that was waited for */
};

static struct http_lane *lane_create(struct list *lanes, const char *key, unsigned connections_max)
{
	struct http_lane *lane = xcalloc(1, sizeof(*lane));

	lane->key = xstrdup(key);
	lane->connections_max = connections_max;
	list_init(&lane->waits);
	list_init(&lane->sockets);
	list_append(lanes, &lane->link);
	return lane;
}

static void lane_destroy(struct http_lane *lane)
{
	assert(lane->active == 0 && list_empty(&lane->waits));
	list_for_each(item, &lane->sockets) {
		list_remove(item);
		free(container_of(item, struct lane_socket, link));
	}
	list_remove(&lane->link);
	free(lane->key);
	free(lane);
}

void http_lanes_deinit(struct list *lanes)
{
	list_for_each(item, lanes)
		lane_destroy(container_of(item, struct http_lane, link));
}

static struct http_lane *lane_find(struct list *lanes, const char *key, unsigned connections_max)
{
	list_for_each(item, lanes) {
		struct http_lane *lane = container_of(item, struct http_lane, link);

		if (strcmp(lane->key, key) == 0)
			return lane;
	}
	return lane_create(lanes, key, connections_max);
}

/* An idle lane is forgotten, unless it knows something. */
static void tidy(struct list *lanes)
{
	unsigned idle = 0;

	for (struct list *item = lanes->prev, *before; item != lanes; item = before) {
		struct http_lane *lane = container_of(item, struct http_lane, link);

		before = item->prev;
		if (lane->active > 0 || !list_empty(&lane->waits) || !list_empty(&lane->sockets))
			continue;
		if (!lane->serial || ++idle > IDLE_LANES_MAX)
			lane_destroy(lane);
	}
}

/* Lets one in if there is room; *ret_opens: it is to open a connection. */
static bool admit(struct http_lane *lane, bool *ret_opens)
{
	bool room = lane->serial || lane->active < lane->connections * STREAMS_EACH;

	*ret_opens = !room;
	if (!room && (lane->opening || lane->connections >= lane->connections_max))
		return false;
	lane->opening = lane->opening || *ret_opens;
	lane->active++;
	return true;
}

static void admit_waiting(struct http_lane *lane)
{
	while (!list_empty(&lane->waits)) {
		struct lane_wait *wait = container_of(lane->waits.next, struct lane_wait, link);

		if (!admit(lane, &wait->opens))
			break;
		wait->admitted = true;
		list_remove(&wait->link);
		event_set(&wait->event);
	}
}

int http_lane_enter(struct list *lanes, const char *key, unsigned connections_max, struct http_ticket *ret, struct err *err)
{
	struct http_lane *lane = lane_find(lanes, key, connections_max);
	struct lane_wait wait = {0};
	int rc = 0;

	*ret = (struct http_ticket){.lanes = lanes, .lane = lane};
	if (list_empty(&lane->waits) && admit(lane, &ret->opens))
		return 0;
	list_append(&lane->waits, &wait.link);
	while (rc == 0 && !wait.admitted && wait.err.kind == ERR_NONE)
		rc = event_wait(&wait.event, err);
	list_remove(&wait.link);
	ret->opens = wait.opens;
	if (wait.err.kind != ERR_NONE && rc == 0) {
		ret->lane = NULL;
		rc = err_move(err, &wait.err);
		tidy(lanes);
	} else if (rc < 0 && wait.admitted) {
		http_lane_leave(ret, NULL);
	} else if (rc < 0) {
		ret->lane = NULL;
		tidy(lanes);
	}
	err_clear(&wait.err);
	return rc;
}

bool http_lane_wants_new(const struct http_ticket *ticket)
{
	struct http_lane *lane = ticket->lane;
	unsigned sockets = 0;

	if (!lane || !ticket->opens || lane->connections == 0)
		return false;
	list_for_each(item, &lane->sockets)
		sockets++;
	return sockets <= lane->connections;
}

static bool lane_forget_socket(struct http_lane *lane, int fd)
{
	list_for_each(item, &lane->sockets) {
		struct lane_socket *s = container_of(item, struct lane_socket, link);

		if (s->fd != fd)
			continue;
		lane->connections -= s->used;
		list_remove(item);
		free(s);
		return true;
	}
	return false;
}

void http_lanes_socket_closed(struct list *lanes, int fd)
{
	list_for_each(item, lanes)
		if (lane_forget_socket(container_of(item, struct http_lane, link), fd))
			break;
	tidy(lanes);
}

void http_lane_socket_opened(struct http_ticket *ticket, int fd)
{
	if (!ticket->lane)
		return;
	struct lane_socket *s = xcalloc(1, sizeof(*s));

	/* libcurl does not tell of an attempt that it gave up; its number is free again. */
	http_lanes_socket_closed(ticket->lanes, fd);
	s->fd = fd;
	list_append(&ticket->lane->sockets, &s->link);
}

static int local_port_of(int fd)
{
	struct sockaddr_in6 address = {0};
	socklen_t len = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -1;
	/* IPv4 has it in the same place. */
	return ntohs(address.sin6_port);
}

void http_lane_connected(struct http_ticket *ticket, int local_port)
{
	struct http_lane *lane = ticket->lane;

	if (!lane || !ticket->opens)
		return;
	ticket->opens = false;
	lane->opening = false;
	list_for_each(item, &lane->sockets) {
		struct lane_socket *s = container_of(item, struct lane_socket, link);

		if (!s->used && local_port_of(s->fd) == local_port) {
			s->used = true;
			lane->connections++;
		}
	}
	admit_waiting(lane);
}

void http_lane_is_serial(struct http_ticket *ticket)
{
	if (!ticket->lane || ticket->lane->serial)
		return;
	ticket->lane->serial = true;
	admit_waiting(ticket->lane);
}

static void fail_waiting(struct http_lane *lane, const struct err *cause)
{
	list_for_each(item, &lane->waits) {
		struct lane_wait *wait = container_of(item, struct lane_wait, link);

		list_remove(item);
		err_set(&wait->err, cause->kind, "%s", err_text(cause));
		event_set(&wait->event);
	}
}

/* Connections that idle may be dead: that the next calls find out one after the other. */
static void forget_use(struct http_lane *lane)
{
	list_for_each(item, &lane->sockets)
		container_of(item, struct lane_socket, link)->used = false;
	lane->connections = 0;
}

void http_lane_leave(struct http_ticket *ticket, const struct err *cause)
{
	struct http_lane *lane = ticket->lane;

	if (!lane)
		return;
	lane->active--;
	if (ticket->opens) {
		lane->opening = false;
		if (cause && lane->connections == 0)
			fail_waiting(lane, cause);
	}
	if (lane->active == 0)
		forget_use(lane);
	admit_waiting(lane);
	tidy(ticket->lanes);
	ticket->lane = NULL;
}
