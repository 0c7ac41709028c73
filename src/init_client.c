/*
 * Life of a struct init: init_start launches the program and waits for READY. From then on packets come and go by the socket's
 * watcher. It is dead when the socket ends, the launcher ends, or it is stopped; what comes first shuts the socket, wakes all
 * commands as lost, and gives the launcher a while before it is killed. It has ended when the launcher is reaped; its handles
 * are closed then, and the memory goes with the last reference: the owner's (until stop or kill), one for each open handle, one
 * for each init_hold.
 */
#include "init_client.h"

#include "base/mem.h"
#include "init/wire.h"
#include "init_launch.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* glibc before 2.36 */
#endif

#define STOP_MS 2000          /* that init_stop waits */
#define KILL_LAUNCHER_MS 1500 /* after the socket was shut: then it gets SIGKILL */
#define RETRY_MS 10           /* a packet that the kernel had no memory for */
#define PACKETS_A_TURN 256    /* then other fibers and callbacks get theirs */

struct packet {
	struct list link;
	int fds[WIRE_FDS_MAX]; /* owned */
	int fd_count;
	size_t len;
	unsigned char bytes[];
};

struct init {
	unsigned refs;
	struct init_child child;
	uv_poll_t socket;
	uv_poll_t exit;
	uv_timer_t timer;
	unsigned handles;     /* of the three, not closed yet */
	struct list commands; /* of struct init_command */
	struct list unsent;   /* packets, in order */
	struct list hangers_on;
	uint64_t last_id;
	bool ready;
	bool dead;  /* no command can run any more */
	bool ended; /* the launcher was reaped */
	int wait_status;
	struct event changed; /* init_start or init_stop waits for it */
};

/* --- references --- */

struct init *init_hold(struct init *init)
{
	init->refs++;
	return init;
}

void init_release(struct init *init)
{
	if (--init->refs)
		return;
	assert(list_empty(&init->commands) && list_empty(&init->hangers_on) && init->handles == 0);
	close_fd(init->child.words_fd);
	init_launch_release();
	free(init);
}

static void on_closed(uv_handle_t *handle)
{
	struct init *init = handle->data;

	init->handles--;
	event_set(&init->changed);
	init_release(init);
}

static void close_handle(uv_handle_t *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, on_closed);
}

/* --- what is sent --- */

static void packet_destroy(struct packet *p)
{
	while (p->fd_count > 0)
		close_fd(p->fds[--p->fd_count]);
	list_remove(&p->link);
	free(p);
}

static struct packet *packet_create(const void *head, size_t head_len, size_t room)
{
	struct packet *p = xmalloc(sizeof(*p) + head_len + room);

	list_init(&p->link);
	p->fd_count = 0;
	p->len = head_len;
	memcpy(p->bytes, head, head_len);
	return p;
}

static ssize_t packet_send(int fd, const struct packet *p)
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
	return n;
}

static void on_socket(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *timer);
static void receive_all(struct init *init);
static void die(struct init *init);

/*
 * Sends what is queued as far as it goes. What the socket has no room for follows when it is writable; where the kernel lacks
 * memory, or the user has too many descriptors on their way through sockets (ETOOMANYREFS), after a while.
 */
static void flush(struct init *init)
{
	bool full = false;

	while (!list_empty(&init->unsent) && !full) {
		struct packet *p = container_of(init->unsent.next, struct packet, link);

		if (packet_send(init->child.control_fd, p) >= 0) {
			packet_destroy(p);
			continue;
		}
		if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM && errno != ETOOMANYREFS) {
			receive_all(init); /* its last words */
			die(init);
			return;
		}
		full = errno == EAGAIN;
		if (!full) {
			uv_timer_start(&init->timer, on_timer, RETRY_MS, 0);
			break;
		}
	}
	uv_poll_start(&init->socket, full ? UV_READABLE | UV_WRITABLE : UV_READABLE, on_socket);
}

static void enqueue(struct init *init, struct packet *p)
{
	bool waits = !list_empty(&init->unsent);

	if (!waits && packet_send(init->child.control_fd, p) >= 0) {
		packet_destroy(p);
		return;
	}
	list_append(&init->unsent, &p->link);
	if (!waits)
		flush(init);
}

/* --- the end --- */

static void command_lose(struct init_command *command)
{
	command->lost = true;
	init_forget(command);
	event_set(command->changed);
}

/* The init cannot be used any more. It sees the socket's end, kills all and exits. */
static void die(struct init *init)
{
	if (init->dead)
		return;
	init->dead = true;
	close_handle((uv_handle_t *)&init->socket);
	init->child.control_fd = close_fd(init->child.control_fd);
	list_for_each(item, &init->unsent)
		packet_destroy(container_of(item, struct packet, link));
	list_for_each(item, &init->commands)
		command_lose(container_of(item, struct init_command, link));
	if (!init->ended)
		uv_timer_start(&init->timer, on_timer, KILL_LAUNCHER_MS, 0);
	event_set(&init->changed);
}

static void on_exit_poll(uv_poll_t *poll, int status, int events)
{
	struct init *init = poll->data;
	siginfo_t info = {0};

	(void)events;
	if (status < 0)
		return;
	/* ECHILD: somebody ignores SIGCHLD, so the kernel reaped it. */
	if (waitid(P_PIDFD, (id_t)init->child.pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
		return;
	init->wait_status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status & 0x7f;
	init->ended = true;
	/* Its last words are still in the socket. */
	receive_all(init);
	die(init);
	close_handle((uv_handle_t *)&init->exit);
	close_handle((uv_handle_t *)&init->timer);
	init->child.pidfd = close_fd(init->child.pidfd);
	event_set(&init->changed);
}

static void on_timer(uv_timer_t *timer)
{
	struct init *init = timer->data;

	if (!init->dead)
		flush(init);
	else if (!init->ended)
		syscall(SYS_pidfd_send_signal, init->child.pidfd, SIGKILL, NULL, 0);
}

/* --- what is received --- */

static void take_event(struct init *init, const struct wire_event *event)
{
	struct init_command *command = NULL;

	if (event->type == WIRE_READY) {
		init->ready = true;
		event_set(&init->changed);
		return;
	}
	list_for_each(item, &init->commands) {
		command = container_of(item, struct init_command, link);
		if (command->id == event->id)
			break;
		command = NULL;
	}
	if (!command) /* forgotten: its tree lived on */
		return;
	switch (event->type) {
	case WIRE_FAILED:
		command->failed = command->ended = true;
		command->start_errno = event->value;
		command->start_step = (enum process_step)event->detail;
		break;
	case WIRE_EXITED:
		command->exited = true;
		command->wait_status = event->value;
		command->ended = event->detail & WIRE_TREE_ENDED;
		break;
	case WIRE_ENDED:
		command->ended = true;
		break;
	case WIRE_LOST:
		command->lost = true;
		break;
	default:
		return;
	}
	event_set(command->changed);
}

/* Reads what is there. The socket's end is the init's death. */
static void receive_all(struct init *init)
{
	for (int i = 0; i < PACKETS_A_TURN && !init->dead; i++) {
		struct wire_event event;
		ssize_t n = recv(init->child.control_fd, &event, sizeof(event), MSG_DONTWAIT);

		if (n == sizeof(event)) {
			take_event(init, &event);
		} else if (n < 0 && (errno == EINTR || errno == ECONNRESET)) {
			continue; /* reset: it left packets of ours unread; those of its own follow all the same */
		} else {
			if (n == 0 || (n < 0 && errno != EAGAIN))
				die(init);
			return;
		}
	}
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
	struct init *init = poll->data;

	if (status < 0 || events & UV_READABLE)
		receive_all(init);
	if (!init->dead && events & UV_WRITABLE)
		flush(init);
}

/* --- start and stop --- */

/* A write to a pipe or socket that nobody reads is to be an error, not the end of the worker. */
static void ignore_sigpipe(void)
{
	struct sigaction old;

	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

static void watch(struct init *init, uv_handle_t *handle)
{
	handle->data = init;
	init->handles++;
	init->refs++;
}

static int init_create(const struct init_child *child, struct init **ret, struct err *err)
{
	struct init *init = xcalloc(1, sizeof(*init));
	uv_loop_t *loop = scheduler_loop();

	init->child = *child;
	init->refs = 1;
	list_init(&init->commands);
	list_init(&init->unsent);
	list_init(&init->hangers_on);
	uv_timer_init(loop, &init->timer);
	watch(init, (uv_handle_t *)&init->timer);
	/* Both are pollable by nature: only a lack of memory makes this fail. */
	int rc = uv_poll_init(loop, &init->socket, child->control_fd);

	if (rc == 0) {
		watch(init, (uv_handle_t *)&init->socket);
		rc = uv_poll_init(loop, &init->exit, child->pidfd);
	}
	if (rc == 0) {
		watch(init, (uv_handle_t *)&init->exit);
		uv_poll_start(&init->socket, UV_READABLE, on_socket);
		uv_poll_start(&init->exit, UV_READABLE, on_exit_poll);
		*ret = init;
		return 0;
	}
	err_set_errno(err, -rc, "watch the init");
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	close_fd(child->control_fd);
	close_fd(child->pidfd);
	if (init->handles > 1)
		close_handle((uv_handle_t *)&init->socket);
	close_handle((uv_handle_t *)&init->timer);
	init_release(init);
	return -1;
}

int init_start(const struct init_options *options, struct init **ret, struct err *err)
{
	const char *name = options->launcher ? options->launcher[0] : "the init";
	struct init_child child;
	struct init *init;

	ignore_sigpipe();
	if (init_launch(options, &child, err) < 0 || init_create(&child, &init, err) < 0)
		return err_wrap(err, "start %s", name);
	while (!init->ready && !init->ended) {
		if (event_wait(&init->changed, err) < 0) {
			init_stop(init);
			return err_wrap(err, "start %s", name);
		}
	}
	if (init->ready && !init->dead) {
		*ret = init;
		return 0;
	}
	init_launch_explain(&init->child, name, init->wait_status, err);
	init_stop(init);
	return -1;
}

void init_kill(struct init *init)
{
	if (!init)
		return;
	die(init);
	for (struct list *item = list_pop(&init->hangers_on); item; item = list_pop(&init->hangers_on)) {
		struct init_hanger_on *hanger_on = container_of(item, struct init_hanger_on, link);

		hanger_on->close(hanger_on);
	}
	init_release(init);
}

void init_stop(struct init *init)
{
	struct fiber_scope scope;

	if (!init)
		return;
	init_hold(init);
	init_kill(init);
	shield_enter(&scope, STOP_MS);
	while (init->handles > 0 && event_wait(&init->changed, NULL) == 0)
		;
	scope_leave(&scope);
	init_release(init);
}

bool init_is_alive(const struct init *init)
{
	return init->ready && !init->dead;
}

/* --- commands --- */

static size_t vector_size(char *const *vector, uint32_t *ret_count)
{
	size_t size = 0;

	for (*ret_count = 0; vector[*ret_count]; ++*ret_count)
		size += strlen(vector[*ret_count]) + 1;
	return size;
}

static char *put_string(char *to, const char *s)
{
	return s ? stpcpy(to, s) + 1 : to;
}

static void put_strings(char *to, const struct process_spec *spec)
{
	to = put_string(to, spec->file);
	to = put_string(to, spec->search_path);
	to = put_string(to, spec->cwd);
	for (char *const *s = spec->argv; *s; s++)
		to = put_string(to, *s);
	for (char *const *s = spec->envp; *s; s++)
		to = put_string(to, *s);
}

/* The strings in a file of memory, for those that do not fit in a packet. -1 with errno. */
static int put_strings_in_memfd(const struct process_spec *spec, size_t size)
{
	int fd = memfd_create("command", MFD_CLOEXEC);
	char *map = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int error = errno;

		close_fd(fd);
		errno = error;
		return -1;
	}
	put_strings(map, spec);
	munmap(map, size);
	return fd;
}

static struct packet *spawn_packet(const struct process_spec *spec, uint64_t id, struct err *err)
{
	struct wire_spawn head = {.type = WIRE_SPAWN, .id = id};

	head.size = strlen(spec->file) + 1;
	head.size += spec->search_path ? strlen(spec->search_path) + 1 : 0;
	head.size += spec->cwd ? strlen(spec->cwd) + 1 : 0;
	head.size += vector_size(spec->argv, &head.argc) + vector_size(spec->envp, &head.envc);
	head.flags = (spec->search_path ? WIRE_HAS_SEARCH_PATH : 0) | (spec->cwd ? WIRE_HAS_CWD : 0);
	if (head.size > COMMAND_STRINGS_MAX) {
		err_set_errno(err, E2BIG, "start %s", spec->file);
		return NULL;
	}
	if (head.size <= WIRE_INLINE_MAX) {
		struct packet *p = packet_create(&head, sizeof(head), head.size);

		put_strings((char *)p->bytes + p->len, spec);
		p->len += head.size;
		return p;
	}
	int fd = put_strings_in_memfd(spec, head.size);

	if (fd < 0) {
		err_set_errno(err, errno, "memory for the arguments");
		return NULL;
	}
	head.flags |= WIRE_IN_MEMFD;
	struct packet *p = packet_create(&head, sizeof(head), 0);

	p->fds[3] = fd;
	p->fd_count = 4;
	return p;
}

static int spawn(struct init *init, const struct process_spec *spec, const int stdio[3], struct init_command *command,
		 struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (!init_is_alive(init))
		return err_set(err, ERR_TRANSPORT, "the init that starts commands has ended");
	command->id = ++init->last_id;
	struct packet *p = spawn_packet(spec, command->id, &e);

	if (!p && e.sys_errno != E2BIG)
		return err_move(err, &e);
	if (!p) {
		command->failed = command->ended = true;
		command->start_errno = E2BIG;
		command->start_step = PROCESS_STEP_EXEC;
		event_set(command->changed);
		return -1;
	}
	memcpy(p->fds, stdio, 3 * sizeof(int));
	p->fd_count = p->fd_count ? p->fd_count : 3;
	list_append(&init->commands, &command->link);
	enqueue(init, p);
	return 0;
}

int init_spawn(struct init *init, const struct process_spec *spec, const int stdio[3], struct init_command *command,
	       struct err *err)
{
	list_init(&command->link);
	if (spawn(init, spec, stdio, command, err) == 0)
		return 0;
	for (int i = 0; i < 3; i++)
		close(stdio[i]);
	return command->failed ? 0 : -1;
}

void init_signal(struct init *init, const struct init_command *command, int signo)
{
	const struct wire_signal request = {.type = WIRE_SIGNAL, .signo = signo, .id = command->id};

	if (!init->dead && !command->ended)
		enqueue(init, packet_create(&request, sizeof(request), 0));
}

void init_forget(struct init_command *command)
{
	list_remove(&command->link);
}

void init_add_hanger_on(struct init *init, struct init_hanger_on *item)
{
	list_append(&init->hangers_on, &item->link);
}
