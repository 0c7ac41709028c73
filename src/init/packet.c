#include "packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int packet_receive(int fd, struct packet *packet)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(packet->fds))];
	struct iovec iov = {.iov_base = packet, .iov_len = offsetof(struct packet, len)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n;

	packet->fd_count = 0;
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? -1 : 0;
	packet->len = (size_t)n;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
		packet->fd_count = (int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(packet->fds, CMSG_DATA(cmsg), (size_t)packet->fd_count * sizeof(int));
	}
	return 1;
}

void packet_close_fds(struct packet *packet)
{
	while (packet->fd_count > 0)
		close(packet->fds[--packet->fd_count]);
}

void packet_send_event(int fd, enum wire_type type, int value, unsigned detail)
{
	const struct wire_event event = {.type = type, .value = value, .detail = detail};

	while (send(fd, &event, sizeof(event), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}
