/*
 * wire: ssh, Telling the outcomes apart; Timeout, cancel. One shell text over there: an ssh that speaks to a master's socket, in a fiber of
 * its own, so that what it still says can be read while the text is being ended from another session.
 */
#include "ssh.h"

#include "base/random.h"

#include <string.h>

/* What a command left running in the background may hold its output open; the answer does not wait for it any longer. */
#define LINGER_MS 250
#define TRIES 4
/* All of what is done about a command that does not end by itself. */
#define END_MS 6000
#define LAST_WORDS_MS 500
/* That a killed ssh may take to be gone. */
#define JOIN_MS 3000
#define TEXT_MAX 65536

struct session {
	struct ssh_state *state;
	struct op *op;
	const struct ssh_task *task;
	struct ssh_master *master;
	char nonce[SSH_NONCE_BYTES];
	struct strv argv;
	struct buf script; /* and the command's input, if it is text */
	struct input input;
	struct ssh_marks marks;
	struct process_result result;
	struct err err; /* ssh could not be run */
	int rc;
	bool ended;
	bool left; /* nobody waits for its end any more: the fiber frees it */
	struct fiber *fiber;
	struct event changed;
};

/* --- one ssh --- */

static void session_free(struct session *s)
{
	struct ssh_state *state = s->state;

	strv_deinit(&s->argv);
	buf_wipe(&s->script);
	ssh_marks_deinit(&s->marks);
	err_clear(&s->err);
	free(s);
	if (--state->sessions == 0)
		event_set(&state->stopped);
}

static int take_bytes(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct session *s = arg;
	int rc = ssh_marks_feed(&s->marks, stream, bytes, n, may_wait, err);

	event_set(&s->changed);
	return rc;
}

static void run_ssh(void *arg)
{
	struct session *s = arg;
	cleanup_strv struct strv env = {0};
	struct init *init;

	ssh_command_env(&env);
	struct process_spec spec = {
		.file = "ssh",
		.argv = strv_list(&s->argv),
		.envp = strv_list(&env),
		.search_path = ssh_command_path(),
		.input = &s->input,
		.on_output = take_bytes,
		.on_output_arg = s,
	};
	s->rc = worker_init(s->state->worker, &init, &s->err);
	if (s->rc == 0)
		s->rc = process_run(init, &spec, &s->result, &s->err);
	if (s->rc == 0 && s->result.outcome == PROCESS_NOT_STARTED)
		s->rc = err_set(&s->err, ERR_SYSTEM, "ssh cannot be started on the worker's machine: %s.", strerror(s->result.start_errno));
	s->ended = true;
	if (s->left)
		session_free(s);
	else
		event_set(&s->changed);
}

static void make_nonce(char nonce[SSH_NONCE_BYTES])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char bytes[SSH_NONCE_BYTES / 2];

	random_bytes(bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++) {
		nonce[2 * i] = digits[bytes[i] >> 4];
		nonce[2 * i + 1] = digits[bytes[i] & 15];
	}
	nonce[SSH_NONCE_BYTES - 1] = '\0';
}

static void write_input(struct session *s)
{
	const struct ssh_task *task = s->task;
	const struct input *input = task->input;

	ssh_script_begin(&s->script, s->nonce);
	task->write_script(&s->script, s->nonce, task->arg);
	ssh_script_end(&s->script, s->nonce);
	if (input && input->fd < 0)
		buf_append(&s->script, input->data, input->len);
	s->input = (struct input){
		.data = s->script.data,
		.len = s->script.len,
		.fd = input ? input->fd : -1,
		.stays_open = !input || input->fd < 0,
	};
}

static struct session *session_create(struct op *op, const struct ssh_task *task, struct ssh_master *master)
{
	struct session *s = xcalloc(1, sizeof *s);

	*s = (struct session){.state = op_state(op), .op = op, .task = task, .master = master, .script = BUF_INIT(BUF_UNBOUNDED)};
	s->state->sessions++;
	make_nonce(s->nonce);
	ssh_marks_init(&s->marks, s->nonce, task->take, task->take_arg);
	return s;
}

static void session_start(struct session *s, const struct ssh_config *c)
{
	cleanup_free char *loader = ssh_script_loader(s->nonce);

	ssh_command_session(c, s->master->socket, loader, &s->argv);
	write_input(s);
	s->fiber = fiber_start(run_ssh, s);
}

/* Waits for its end, for at most ms, then ends it. Where the time for that is over too, it ends by itself. */
static void session_join(struct session *s, int64_t ms)
{
	struct fiber_scope scope;

	shield_enter(&scope, ms);
	while (!s->ended && event_wait(&s->changed, NULL) == 0)
		;
	scope_leave(&scope);
	if (!s->ended)
		fiber_cancel(s->fiber);
	shield_enter(&scope, JOIN_MS);
	while (!s->ended && event_wait(&s->changed, NULL) == 0)
		;
	scope_leave(&scope);
	ssh_marks_finish(&s->marks);
}

static void session_release(struct session *s)
{
	/* What it still says would go to somebody who is not there. */
	s->marks.put = NULL;
	s->left = true;
	if (s->ended)
		session_free(s);
}

/* Until it has ended, or its command has, and LINGER_MS after that. -1: deadline, cancelled. */
static int session_follow(struct session *s, struct err *err)
{
	int64_t until_ms = 0;

	while (!s->ended) {
		bool set;

		if (until_ms == 0 && ssh_marks_have_ended(&s->marks))
			until_ms = loop_now_ms() + LINGER_MS;
		if (until_ms > 0 && loop_now_ms() >= until_ms)
			return 0;
		if (event_wait_for(&s->changed, until_ms > 0 ? until_ms - loop_now_ms() : -1, &set, err) < 0)
			return -1;
	}
	return 0;
}

/* --- ending what runs over there --- */

struct kill_task {
	const char *nonce;
	long group;
};

static void write_kill(struct buf *out, const char *nonce, const void *arg)
{
	const struct kill_task *kill = arg;

	ssh_script_kill(out, "PSW_EXEC", kill->nonce, kill->group);
}

/*
 * Of the session that s was; the processes with its mark, and its group. What cannot be reached is left to its life-line, which ends it
 * when the machine over there notices that the connection is gone.
 */
static void end_command(struct session *s, struct ssh_account *account, const struct ssh_config *c)
{
	struct kill_task kill = {.nonce = s->nonce, .group = s->marks.pid};
	struct ssh_task task = {.write_script = write_kill, .arg = &kill, .control = true};
	struct ssh_reply reply;
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;

	shield_enter(&scope, END_MS);
	if (ssh_session_run(s->op, account, c, &task, &reply, &err) < 0)
		op_log(s->op, LOG_LEVEL_WARN, NULL, "A command on %s may still be running: %s", c->host, err_text(&err));
	else if (reply.code != 0)
		op_log(s->op, LOG_LEVEL_WARN, NULL, "A process of a command on %s cannot be killed.", c->host);
	scope_leave(&scope);
}

/* --- outcomes --- */

static char *noise_of(const struct session *s)
{
	struct buf text = BUF_INIT(BUF_UNBOUNDED);

	for (int i = 1; i >= 0; i--) {
		if (s->marks.streams[i].noise.len > 0)
			buf_append(&text, s->marks.streams[i].noise.data, s->marks.streams[i].noise.len);
		buf_append_char(&text, '\n');
	}
	/* What it said may hold any byte. */
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '\0')
			text.data[i] = ' ';
	}
	return buf_steal(&text);
}

static char *repaired(const char *text)
{
	struct utf8_repair repair = {0};
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&out, "");
	utf8_repair_append(&repair, text, strlen(text), &out);
	utf8_repair_finish(&repair, &out);
	return buf_steal(&out);
}

/* ssh has ended, and nothing has begun over there. 1: it may be tried again. */
static int explain_no_start(struct session *s, struct ssh_account *account, const struct ssh_config *c, struct err *err)
{
	cleanup_free char *raw = noise_of(s);
	cleanup_free char *noise = repaired(raw);
	cleanup_free char *clean = ssh_clean_text(noise);
	cleanup_free char *where = ssh_destination(c);
	int code = s->result.outcome == PROCESS_EXITED ? s->result.exit_code : -1;

	if (s->rc < 0)
		return err_move(err, &s->err);
	if (ssh_text_is_refused_session(noise)) {
		ssh_account_lower_limit(account, s->master);
		ssh_explain(c, noise, err);
		return 1;
	}
	if (code == 255 || code < 0) {
		ssh_master_drop(s->master);
		ssh_explain(c, noise, err);
		/* A session that was lost without a word may have begun, though nothing of it has come. */
		if (!s->task->endable || ssh_text_is_unopened_session(noise))
			return 1;
		end_command(s, account, c);
		err_clear(err);
		return err_set(err, ERR_TRANSPORT,
			       "The connection to %s was lost while the command was being started. Whether it ran is not known; it is not run again.",
			       where);
	}
	return err_set(err, ERR_REMOTE,
		       "%s lets us in, but runs no commands: the login shell ended with status %d before it came to ours.%s%s Is the user's "
		       "shell a shell, does the account allow more than SFTP (ForceCommand), and does its start-up file not exit?",
		       where, code, *clean ? " It said: " : "", clean);
}

static int explain_loss(struct session *s, struct ssh_account *account, const struct ssh_config *c, struct err *err)
{
	cleanup_free char *where = ssh_destination(c);

	if (s->rc < 0)
		return err_move(err, &s->err);
	/* The wrapper of a command may have been killed by the command: then the connection is fine. */
	if (s->result.outcome == PROCESS_EXITED && s->result.exit_code != 255)
		return err_set(err, ERR_REMOTE, "The shell that ran the command on %s ended before the command did.", where);
	ssh_master_drop(s->master);
	if (s->task->endable)
		end_command(s, account, c);
	return err_set(err, ERR_TRANSPORT,
		       "The connection to %s was lost while the command ran. What it has done until then stays; it is not run again.", where);
}

static int take_reply(struct session *s, struct ssh_reply *ret)
{
	ret->code = s->marks.code;
	memcpy(ret->word, s->marks.word, sizeof ret->word);
	return 0;
}

/* The wait failed: its time is over, or nobody wants it any more. */
static int give_up(struct session *s, struct ssh_account *account, const struct ssh_config *c, bool own_time_is_over,
		   struct ssh_reply *ret, struct err *why, struct err *err)
{
	/* What has not begun must not begin behind the back of its ending. */
	if (!ssh_marks_have_begun(&s->marks))
		session_join(s, 0);
	if (s->task->endable)
		end_command(s, account, c);
	session_join(s, s->task->endable ? LAST_WORDS_MS : 0);
	if (!err_is(why, ERR_TIMEOUT) || !own_time_is_over)
		return err_move(err, why);
	ret->timed_out = true;
	ret->begun = ssh_marks_have_begun(&s->marks);
	return 0;
}

/* 1: nothing has begun, and another connection may do better. */
static int run_once(struct session *s, struct ssh_account *account, const struct ssh_config *c, struct ssh_reply *ret, struct err *err)
{
	cleanup_err struct err why = ERR_INIT;
	struct fiber_scope scope;

	session_start(s, c);
	deadline_enter(&scope, s->task->timeout_ms > 0 ? s->task->timeout_ms : DEADLINE_NONE);
	int rc = session_follow(s, &why);
	scope_leave(&scope);
	if (rc < 0)
		return give_up(s, account, c, s->task->timeout_ms > 0, ret, &why, err);
	session_join(s, 0);
	if (ssh_marks_have_ended(&s->marks))
		return take_reply(s, ret);
	if (!s->ended)
		return err_set(err, ERR_TIMEOUT, "The time for a command on %s is over.", c->host);
	if (ssh_marks_have_begun(&s->marks))
		return explain_loss(s, account, c, err);
	rc = explain_no_start(s, account, c, err);
	/* What was read from a descriptor is gone. */
	return rc == 1 && s->task->input && s->task->input->fd >= 0 ? -1 : rc;
}

int ssh_session_run(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_task *task,
		    struct ssh_reply *ret, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	int rc = 1, tries = 0;

	*ret = (struct ssh_reply){0};
	while (rc == 1 && tries < TRIES) {
		unsigned total_max = account->total_max;
		struct ssh_master *master;

		err_clear(&e);
		if (ssh_master_take(account, c, task->control, &master, err) < 0)
			return -1;
		struct session *s = session_create(op, task, master);
		rc = run_once(s, account, c, ret, &e);
		session_release(s);
		ssh_master_give(master);
		/* A refusal that has taught something is no failure. */
		tries += account->total_max == total_max;
	}
	return rc == 0 ? 0 : err_move(err, &e);
}

/* --- scripts of ours --- */

static int take_words(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct ssh_words *w = arg;
	struct buf *text = stream == OUTPUT_STDOUT ? &w->out : &w->err_out;
	size_t room = text->max - text->len;

	buf_append(text, bytes, n < room ? n : room);
	return 0;
}

static void write_ready(struct buf *out, const char *nonce, const void *arg)
{
	const struct buf *script = arg;

	buf_append(out, script->data, script->len);
}

void ssh_words_deinit(struct ssh_words *w)
{
	buf_deinit(&w->out);
	buf_deinit(&w->err_out);
}

int ssh_session_ask(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct buf *script, bool control,
		    int64_t ms, struct ssh_words *ret, struct err *err)
{
	struct ssh_task task = {
		.write_script = write_ready,
		.arg = script,
		.take = take_words,
		.take_arg = ret,
		.timeout_ms = ms,
		.control = control,
	};

	*ret = (struct ssh_words){.out = BUF_INIT(TEXT_MAX), .err_out = BUF_INIT(TEXT_MAX)};
	buf_append_str(&ret->out, "");
	buf_append_str(&ret->err_out, "");
	if (ssh_session_run(op, account, c, &task, &ret->reply, err) < 0)
		return -1;
	if (!ret->reply.timed_out)
		return 0;
	cleanup_free char *where = ssh_destination(c);
	if (ret->reply.begun)
		return err_set(err, ERR_TRANSPORT, "%s has not answered in time: the network or the machine hangs (timed out).", where);
	return err_set(err, ERR_TRANSPORT,
		       "The login shell of %s has not begun in time (timed out): the machine hangs, or a start-up file of the shell, such as "
		       "~/.bashrc, waits for something or reads the input.",
		       where);
}
