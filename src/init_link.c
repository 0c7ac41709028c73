#include "init_link.h"

#include "base/mem.h"
#include "fiber.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define EVENTS_A_TURN 256 /* then other callbacks and fibers get their turn */

static void packet_destroy(struct init_packet *p)
{
	while (p->fd_count > 0)
		close_fd(p->fds[--p->fd_count]);
	list_remove(&p->link);
	free(p);
}

struct init_packet *init_packet_create(const void *head, size_t head_len, size_t room)
{
	struct init_packet *p = xmalloc(sizeof(*p) + head_len + room);

	list_init(&p->link);
	p->fd_count = 0;
	p->len = head_len;
	memcpy(p->bytes, head, head_len);
	return p;
}

/* 0 or an errno value. */
static int packet_send(int fd, const struct init_packet *p)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(p->fds))] = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p->bytes, .iov_len = p->len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t fds_len = (size_t)p->fd_count * sizeof(int);
	ssize_t n;

	if (p->fd_count) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(fds_len);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

		*cmsg = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fds_len)};
		memcpy(CMSG_DATA(cmsg), p->fds, fds_len);
	}
	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? errno : 0;
}

/* A later try may work. ETOOMANYREFS: the user has too many descriptors on their way through sockets. */
static bool is_passing(int error)
{
	return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == ETOOMANYREFS;
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Sends what is kept, in order. A failure for good shows up as the end of the socket. */
static void flush(struct init_link *link)
{
	int error = 0;

	while (!list_empty(&link->unsent) && !is_passing(error)) {
		struct init_packet *p = container_of(link->unsent.next, struct init_packet, link);

		error = packet_send(link->fd, p);
		if (!is_passing(error))
			packet_destroy(p);
	}
	uv_poll_start(&link->poll, error == EAGAIN ? UV_READABLE | UV_WRITABLE : UV_READABLE, on_poll);
}

int init_link_send(struct init_link *link, struct init_packet *packet)
{
	bool waits = !list_empty(&link->unsent);
	int error = waits ? EAGAIN : packet_send(link->fd, packet);

	if (!is_passing(error)) {
		packet_destroy(packet);
		return error;
	}
	list_append(&link->unsent, &packet->link);
	if (error == EAGAIN && !waits)
		uv_poll_start(&link->poll, UV_READABLE | UV_WRITABLE, on_poll);
	return 0;
}

bool init_link_needs_retry(const struct init_link *link)
{
	return link->fd >= 0 && !list_empty(&link->unsent);
}

void init_link_retry(struct init_link *link)
{
	if (init_link_needs_retry(link))
		flush(link);
}

void init_link_receive(struct init_link *link)
{
	for (int i = 0; i < EVENTS_A_TURN && link->fd >= 0; i++) {
		struct wire_event event;
		ssize_t n = recv(link->fd, &event, sizeof(event), MSG_DONTWAIT);

		if (n == sizeof(event)) {
			link->on_event(link, &event);
		} else if (n < 0 && (errno == EINTR || errno == ECONNRESET)) {
			continue; /* reset: it left packets of ours unread; what it said before follows all the same */
		} else {
			if (n == 0 || (n < 0 && errno != EAGAIN))
				link->on_event(link, NULL);
			return;
		}
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct init_link *link = container_of(poll, struct init_link, poll);

	if (status < 0 || events & UV_READABLE)
		init_link_receive(link);
	if (link->fd >= 0 && events & UV_WRITABLE)
		flush(link);
}

int init_link_open(struct init_link *link, int fd, struct err *err)
{
	int rc = uv_poll_init(scheduler_loop(), &link->poll, fd);

	if (rc < 0) {
		close(fd);
		link->fd = -1;
		return err_set_errno(err, -rc, "watch a socket");
	}
	link->fd = fd;
	list_init(&link->unsent);
	uv_poll_start(&link->poll, UV_READABLE, on_poll);
	return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct init_link *link = container_of(handle, struct init_link, poll);

	link->on_closed(link);
}

void init_link_close(struct init_link *link)
{
	if (link->fd < 0)
		return;
	uv_close((uv_handle_t *)&link->poll, on_handle_closed);
	link->fd = close_fd(link->fd);
	list_for_each(item, &link->unsent)
		packet_destroy(container_of(item, struct init_packet, link));
}
