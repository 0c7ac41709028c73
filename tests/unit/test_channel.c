#include "base/mem.h"
#include "channel.h"
#include "loop.h"
#include "tap.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A channel between two socket pairs; the test plays the host. */
struct session {
	struct channel *channel;
	int to_worker, from_worker; /* the host's ends */
	struct buf lines;           /* what on_line got, joined by '|' */
	unsigned overlong;
	unsigned ends;
	struct event line, end;
};

static void on_line(void *arg, char *line, size_t len)
{
	struct session *s = arg;

	buf_append(&s->lines, line, len);
	buf_append_char(&s->lines, '|');
	event_set(&s->line);
}

static void on_overlong(void *arg, char *head, size_t len)
{
	(void)head, (void)len;
	((struct session *)arg)->overlong++;
}

static void on_end(void *arg)
{
	struct session *s = arg;

	s->ends++;
	event_set(&s->end);
}

static void session_open(struct session *s)
{
	int in[2], out[2];
	struct channel_events events = {.on_line = on_line, .on_overlong = on_overlong, .on_end = on_end, .arg = s};

	*s = (struct session){.lines = BUF_INIT(BUF_UNBOUNDED)};
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
	s->to_worker = in[0];
	s->from_worker = out[0];
	s->channel = channel_create(in[1], out[1], &events);
}

static void session_close(struct session *s)
{
	channel_close(s->channel, 1000);
	channel_destroy(s->channel);
	close_fd(s->to_worker);
	close_fd(s->from_worker);
	buf_deinit(&s->lines);
}

static void send_split_lines(void *arg)
{
	static const char text[] = "one\ntwo\r\n\n{\"x\":\"\xe2\x80\xa8\"}\nlast";
	struct session s;

	(void)arg;
	session_open(&s);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		CHECK_INT(write(s.to_worker, text + i, 1), 1);
		fiber_sleep(0, NULL);
	}
	s.to_worker = close_fd(s.to_worker);
	CHECK_INT(event_wait(&s.end, NULL), 0);
	CHECK_STR(s.lines.data, "one|two|{\"x\":\"\xe2\x80\xa8\"}|last|");
	CHECK_INT(s.ends, 1);
	session_close(&s);
}

TEST(lines_come_whole_however_they_were_cut_and_the_end_is_told_once)
{
	run_in_loop(send_split_lines, NULL);
}

static void send_text_message(void *arg)
{
	struct session s;
	struct message *m = message_create();
	struct buf text = BUF_INIT(BUF_UNBOUNDED);
	char got[64] = "";

	(void)arg;
	session_open(&s);
	buf_append_str(&text, "a\"b\n\xe2\x80\xa9");
	buf_append_str(message_tail(m), "{\"t\":\"");
	message_add_text(m, &text);
	buf_append_str(message_tail(m), "\"}\n");
	channel_send(s.channel, m);
	channel_send_line(s.channel, "2\n", 2);
	fiber_sleep(5, NULL);
	CHECK(read(s.from_worker, got, sizeof(got) - 1) > 0);
	CHECK_STR(got, "{\"t\":\"a\\\"b\\n\\u2029\"}\n2\n");
	CHECK_INT(channel_queued(s.channel), 0);
	session_close(&s);
}

TEST(raw_text_is_escaped_on_its_way_out_and_messages_keep_their_order)
{
	run_in_loop(send_text_message, NULL);
}

struct producer {
	struct session *session;
	unsigned sent;
};

static void produce(void *arg)
{
	struct producer *p = arg;
	char line[4096];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (p->sent = 0; p->sent < 4096; p->sent++) {
		if (channel_wait_writable(p->session->channel, NULL) < 0)
			return;
		channel_send_line(p->session->channel, line, sizeof(line));
	}
}

static void read_slowly(void *arg)
{
	struct session s;
	struct producer p = {.session = &s};
	struct fiber_group group;
	size_t got = 0;
	char *buffer = xmalloc(1 << 20);

	(void)arg;
	session_open(&s);
	fiber_group_init(&group);
	fiber_group_start(&group, produce, &p);
	fiber_sleep(20, NULL);
	CHECK(p.sent < 600);
	CHECK(channel_queued(s.channel) < (size_t)2 << 20);
	while (got < (size_t)4096 * 4096) {
		ssize_t n = recv(s.from_worker, buffer, 1 << 20, MSG_DONTWAIT);

		if (n > 0)
			got += (size_t)n;
		else
			fiber_sleep(1, NULL);
		CHECK(channel_queued(s.channel) < (size_t)2 << 20);
	}
	fiber_group_join(&group, NULL);
	CHECK_INT(p.sent, 4096);
	free(buffer);
	session_close(&s);
}

TEST(a_producer_waits_while_the_host_does_not_read)
{
	run_in_loop(read_slowly, NULL);
}

static void lose_the_host(void *arg)
{
	struct session s;
	struct producer p = {.session = &s};
	struct fiber_group group;

	(void)arg;
	session_open(&s);
	fiber_group_init(&group);
	fiber_group_start(&group, produce, &p);
	fiber_sleep(10, NULL);
	s.from_worker = close_fd(s.from_worker);
	CHECK_INT(event_wait(&s.end, NULL), 0);
	fiber_group_join(&group, NULL);
	CHECK(!channel_is_open(s.channel));
	CHECK_INT(channel_queued(s.channel), 0);
	session_close(&s);
	CHECK_INT(s.ends, 1);
}

TEST(a_host_that_vanishes_wakes_everybody_and_drops_the_queue)
{
	run_in_loop(lose_the_host, NULL);
}

static void close_with_a_queue(void *arg)
{
	struct session s;
	struct message *m = message_create();

	(void)arg;
	session_open(&s);
	for (int i = 0; i < 100000; i++)
		buf_append_str(message_tail(m), "0123456789");
	channel_send(s.channel, m);
	channel_close(s.channel, 20);
	CHECK(!channel_is_open(s.channel));
	session_close(&s);
}

TEST(closing_does_not_wait_for_ever_for_a_host_that_does_not_read)
{
	run_in_loop(close_with_a_queue, NULL);
}

static void use_pipes(void *arg)
{
	struct session s = {.lines = BUF_INIT(BUF_UNBOUNDED)};
	struct channel_events events = {.on_line = on_line, .on_overlong = on_overlong, .on_end = on_end, .arg = &s};
	int in[2], out[2];
	char got[8] = "";

	(void)arg;
	CHECK_INT(pipe2(in, O_CLOEXEC), 0);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	int shared = dup(out[1]);

	s.to_worker = in[1];
	s.from_worker = out[0];
	s.channel = channel_create(in[0], out[1], &events);
	CHECK_INT(write(s.to_worker, "l\n", 2), 2);
	CHECK_INT(event_wait(&s.line, NULL), 0);
	channel_send_line(s.channel, "ok\n", 3);
	fiber_sleep(5, NULL);
	CHECK_INT(read(s.from_worker, got, sizeof(got)), 3);
	CHECK(!(fcntl(shared, F_GETFL) & O_NONBLOCK));
	close(shared);
	session_close(&s);
}

TEST(pipes_work_and_the_description_that_others_share_stays_blocking)
{
	run_in_loop(use_pipes, NULL);
}

TEST_MAIN()
