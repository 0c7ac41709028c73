/*
 * Life of a struct init: init_start launches the program and waits for READY. From then on supervisors are made on the control
 * socket and commands run on theirs. The init is dead when the control socket ends, the launcher ends, or it is stopped; what
 * comes first shuts all sockets, wakes all commands as lost, and gives the launcher a while before it is killed. It has ended
 * when the launcher is reaped; its handles are closed then, and the memory goes with the last reference: the owner's (until
 * stop or kill), one for each open handle, one for each init_hold.
 */
#include "init_client.h"

#include "base/mem.h"
#include "init_launch.h"
#include "init_link.h"
#include "init_request.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define STOP_MS 2000          /* that init_stop waits */
#define KILL_LAUNCHER_MS 1500 /* after the sockets were shut: then it gets SIGKILL */
#define RETRY_MS 10           /* for packets that the kernel had no memory for */
#define IDLE_MAX 4            /* supervisors that are kept without a command: they count against a sandbox's limits */

struct init_supervisor {
	struct init_link link;
	struct init *init;
	struct list entry; /* in the init's list of idle or busy ones */
	bool idle;
	struct init_command *command; /* borrowed; NULL: none */
};

struct init {
	unsigned refs;
	struct init_child child;
	struct init_link control;
	uv_signal_t sigchld;
	uv_timer_t timer;
	unsigned handles; /* open ones: of the three above and the supervisors */
	struct list idle; /* supervisors, the last used first */
	unsigned idle_count;
	struct list busy; /* supervisors */
	struct list hangers_on;
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
	assert(list_empty(&init->idle) && list_empty(&init->busy) && list_empty(&init->hangers_on) && init->handles == 0);
	close_fd(init->child.words_fd);
	init_launch_release();
	free(init);
}

static void handle_opened(struct init *init)
{
	init->handles++;
	init->refs++;
}

static void handle_closed(struct init *init)
{
	init->handles--;
	event_set(&init->changed);
	init_release(init);
}

static void on_closed(uv_handle_t *handle)
{
	handle_closed(handle->data);
}

static void on_control_closed(struct init_link *link)
{
	handle_closed(container_of(link, struct init, control));
}

static void on_timer(uv_timer_t *timer);

/* Steals the packet. */
static int send_packet(struct init *init, struct init_link *link, struct init_packet *packet)
{
	int error = init_link_send(link, packet);

	if (init_link_needs_retry(link))
		uv_timer_start(&init->timer, on_timer, RETRY_MS, 0);
	return error;
}

/* --- supervisors --- */

static void on_supervisor_closed(struct init_link *link)
{
	struct init_supervisor *s = container_of(link, struct init_supervisor, link);
	struct init *init = s->init;

	free(s);
	handle_closed(init);
}

/* Moves it to the front of one of the two lists. */
static void supervisor_set_idle(struct init_supervisor *s, bool idle)
{
	struct init *init = s->init;

	init->idle_count += (unsigned)idle - (unsigned)s->idle;
	s->idle = idle;
	list_remove(&s->entry);
	list_append((idle ? &init->idle : &init->busy)->next, &s->entry);
}

static void supervisor_close(struct init_supervisor *s)
{
	supervisor_set_idle(s, false);
	list_remove(&s->entry);
	init_link_close(&s->link);
}

/* It was killed, or is given up with the init. */
static void supervisor_lose(struct init_supervisor *s)
{
	struct init_command *command = s->command;

	supervisor_close(s);
	if (!command)
		return;
	s->command = NULL;
	command->supervisor = NULL;
	command->lost = true;
	event_set(command->changed);
}

static void on_supervisor_event(struct init_link *link, const struct wire_event *event)
{
	struct init_supervisor *s = container_of(link, struct init_supervisor, link);
	struct init_command *command = s->command;

	if (!event) {
		supervisor_lose(s);
		return;
	}
	if (!command)
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
	default:
		return;
	}
	event_set(command->changed);
}

/* A new one, among the busy. */
static struct init_supervisor *supervisor_create(struct init *init, struct err *err)
{
	const struct wire_event request = {.type = WIRE_SUPERVISOR};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_set_errno(err, errno, "make a socket");
		return NULL;
	}
	struct init_supervisor *s = xcalloc(1, sizeof(*s));

	s->init = init;
	s->link.on_event = on_supervisor_event;
	s->link.on_closed = on_supervisor_closed;
	if (init_link_open(&s->link, pair[0], err) < 0) {
		close(pair[1]);
		free(s);
		return NULL;
	}
	handle_opened(init);
	list_append(&init->busy, &s->entry);
	struct init_packet *packet = init_packet_create(&request, sizeof(request), 0);

	packet->fds[0] = pair[1];
	packet->fd_count = 1;
	/* If it cannot be sent, the pair's end tells. */
	send_packet(init, &init->control, packet);
	return s;
}

/* An idle one or a new one. */
static struct init_supervisor *supervisor_take(struct init *init, struct err *err)
{
	while (!list_empty(&init->idle)) {
		struct init_supervisor *s = container_of(init->idle.next, struct init_supervisor, entry);

		init_link_receive(&s->link); /* a command may have killed it */
		if (s->link.fd < 0)
			continue;
		supervisor_set_idle(s, false);
		return s;
	}
	return supervisor_create(init, err);
}

static void supervisor_give(struct init_supervisor *s, bool reusable)
{
	s->command = NULL;
	if (reusable && s->init->idle_count < IDLE_MAX)
		supervisor_set_idle(s, true);
	else
		supervisor_close(s);
}

/* --- the end --- */

static void lose_all(struct list *supervisors)
{
	list_for_each(item, supervisors)
		supervisor_lose(container_of(item, struct init_supervisor, entry));
}

/* The init cannot be used any more. It sees the socket's end, kills all and exits. */
static void die(struct init *init)
{
	if (init->dead)
		return;
	init->dead = true;
	init_link_close(&init->control);
	lose_all(&init->busy);
	lose_all(&init->idle);
	if (!init->ended)
		uv_timer_start(&init->timer, on_timer, KILL_LAUNCHER_MS, 0);
	event_set(&init->changed);
}

static void on_control_event(struct init_link *link, const struct wire_event *event)
{
	struct init *init = container_of(link, struct init, control);

	if (!event)
		die(init);
	else if (event->type == WIRE_READY)
		init->ready = true;
	event_set(&init->changed);
}

/* Reaps the launcher if it has ended. Not by pidfd: Linux before 5.3 has none, nor has valgrind. */
static void check_launcher(struct init *init)
{
	pid_t pid;

	if (init->ended)
		return;
	do
		pid = waitpid(init->child.pid, &init->wait_status, WNOHANG);
	while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return;
	init->ended = true;
	/* Last words are still in the sockets. */
	init_link_receive(&init->control);
	list_for_each(item, &init->busy)
		init_link_receive(&container_of(item, struct init_supervisor, entry)->link);
	die(init);
	uv_close((uv_handle_t *)&init->sigchld, on_closed);
	uv_close((uv_handle_t *)&init->timer, on_closed);
	event_set(&init->changed);
}

static void on_sigchld(uv_signal_t *handle, int signo)
{
	(void)signo;
	check_launcher(handle->data);
}

static void on_timer(uv_timer_t *timer)
{
	struct init *init = timer->data;
	bool again;

	if (init->dead) {
		kill(init->child.pid, SIGKILL); /* not reaped yet: the timer would be closed */
		return;
	}
	init_link_retry(&init->control);
	again = init_link_needs_retry(&init->control);
	list_for_each(item, &init->busy) {
		struct init_link *link = &container_of(item, struct init_supervisor, entry)->link;

		init_link_retry(link);
		again = again || init_link_needs_retry(link);
	}
	if (again)
		uv_timer_start(timer, on_timer, RETRY_MS, 0);
}

/* --- start and stop --- */

/* A write to a pipe or socket that nobody reads is to be an error, not the end of the worker. */
static void ignore_sigpipe(void)
{
	struct sigaction old;

	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

/* Takes the child over. */
static struct init *init_create(const struct init_child *child)
{
	struct init *init = xcalloc(1, sizeof(*init));

	init->child = *child;
	init->refs = 1;
	list_init(&init->idle);
	list_init(&init->busy);
	list_init(&init->hangers_on);
	uv_timer_init(scheduler_loop(), &init->timer);
	uv_signal_init(scheduler_loop(), &init->sigchld);
	init->sigchld.data = init->timer.data = init;
	handle_opened(init);
	handle_opened(init);
	uv_signal_start(&init->sigchld, on_sigchld, SIGCHLD);
	init->control.on_event = on_control_event;
	init->control.on_closed = on_control_closed;
	if (init_link_open(&init->control, child->control_fd, NULL) == 0)
		handle_opened(init);
	else
		die(init);
	check_launcher(init); /* it may have ended before we listened */
	return init;
}

int init_start(const struct init_options *options, struct init **ret, struct err *err)
{
	const char *name = options->launcher ? options->launcher[0] : "the init";
	struct init_child child;

	ignore_sigpipe();
	if (init_launch(options, &child, err) < 0)
		return err_wrap(err, "start %s", name);
	struct init *init = init_create(&child);

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

/* Takes stdio over if it succeeds. */
static int spawn(struct init *init, const struct process_spec *spec, const int stdio[3], struct init_command *command,
		 struct err *err)
{
	if (!init_is_alive(init))
		return err_set(err, ERR_TRANSPORT, "the init that starts commands has ended");
	struct init_supervisor *s = supervisor_take(init, err);
	struct init_packet *p = s ? init_request_create(spec, err) : NULL;

	if (!p) {
		if (s)
			supervisor_give(s, true);
		return -1;
	}
	init_request_take_stdio(p, stdio);
	s->command = command;
	command->supervisor = s;
	if (send_packet(init, &s->link, p) != 0)
		supervisor_lose(s);
	return 0;
}

int init_spawn(struct init *init, const struct process_spec *spec, const int stdio[3], struct init_command *command,
	       struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (spawn(init, spec, stdio, command, &e) == 0)
		return 0;
	for (int i = 0; i < 3; i++)
		close(stdio[i]);
	if (e.sys_errno != E2BIG)
		return err_move(err, &e);
	command->failed = command->ended = true;
	command->start_errno = E2BIG;
	command->start_step = PROCESS_STEP_EXEC;
	event_set(command->changed);
	return 0;
}

void init_signal(const struct init_command *command, int signo)
{
	const struct wire_event request = {.type = WIRE_SIGNAL, .value = signo};
	struct init_supervisor *s = command->supervisor;

	if (s && !command->ended)
		send_packet(s->init, &s->link, init_packet_create(&request, sizeof(request), 0));
}

void init_forget(struct init_command *command)
{
	if (command->supervisor)
		supervisor_give(command->supervisor, command->ended);
	command->supervisor = NULL;
}

void init_add_hanger_on(struct init *init, struct init_hanger_on *item)
{
	list_append(&init->hangers_on, &item->link);
}
