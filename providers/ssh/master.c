/*
 * wire: ssh, Connection sharing; Key and host keys without files. One connection: an ssh that logs in, listens at a socket of ours and lives
 * until nobody has used it for a while. It is a child of the worker's init, so it ends with the worker, whatever happens. The key is there
 * for it only until it has logged in.
 */
#include "ssh.h"

#include "base/random.h"

#include <string.h>
#include <unistd.h>

#define IDLE_MS 60000
#define GRACE_MS 500
#define TEXT_MAX 16384
#define TOOL_MS 15000
/* ssh-add's exit status where there is no agent to speak to. */
#define NO_AGENT 2
#define TRIES 6
#define BACKOFF_MS 100

/* An ssh under way. */
struct login {
	struct ssh_master *master;
	struct strv argv;
	struct buf text; /* what it said */
	bool ready;
	bool ended;
	struct err err; /* it could not be run */
	struct event done;
};

/* --- an agent, for a key with a passphrase --- */

struct agent {
	struct ssh_master *master;
	char *socket; /* owned */
	struct fiber *fiber;
	bool ended;
	struct event done;
};

static void run_agent(void *arg)
{
	struct agent *agent = arg;
	cleanup_strv struct strv argv = {0}, env = {0};
	cleanup_buf struct buf text = BUF_INIT(TEXT_MAX);
	int code;

	strv_add_all(&argv, "ssh-agent", "-D", "-a", agent->socket, NULL);
	ssh_command_env(&env);
	(void)ssh_run_tool(agent->master->account->state->worker, strv_list(&argv), strv_list(&env), NULL, 0, &text, &code, NULL);
	agent->ended = true;
	event_set(&agent->done);
}

static void stop_agent(struct agent *agent)
{
	struct fiber_scope scope;

	if (!agent->socket)
		return;
	if (!agent->ended)
		fiber_cancel(agent->fiber);
	shield_enter(&scope, DEADLINE_NONE);
	while (!agent->ended)
		(void)event_wait(&agent->done, NULL);
	scope_leave(&scope);
	unlink(agent->socket);
	free(agent->socket);
}

/* It makes its socket within a few milliseconds. */
static int wait_for_agent(const struct agent *agent, struct err *err)
{
	for (int i = 0; i < TOOL_MS / 5; i++) {
		if (access(agent->socket, F_OK) == 0)
			return 0;
		if (agent->ended)
			break;
		if (fiber_sleep(5, err) < 0)
			return -1;
	}
	return err_set(err, ERR_SYSTEM, "ssh-agent does not start on the worker's machine; it is needed for a key with a passphrase.");
}

/*
 * ssh-add takes a passphrase from a program only, and asks again for ever if it is wrong: this one answers once.
 */
static int make_asker(struct ssh_dir *dir, const struct ssh_file *passphrase, const char *once, struct ssh_file *ret, struct err *err)
{
	cleanup_free char *script =
		xasprintf("#!/bin/sh\nmkdir '%s' 2>/dev/null || exit 1\nexec cat '%s'\n", once, passphrase->path);

	return ssh_file_create(dir, script, 0700, ret, err);
}

static int add_key(struct ssh_master *master, const struct agent *agent, const char *asker, struct err *err)
{
	cleanup_strv struct strv argv = {0}, env = {0};
	cleanup_buf struct buf text = BUF_INIT(TEXT_MAX);
	cleanup_free char *key = NULL;
	int64_t until_ms = loop_now_ms() + TOOL_MS;
	int code, rc;

	if (ssh_key_mend(master->config.private_key, &key, err) < 0)
		return -1;
	strv_add_all(&argv, "ssh-add", "-q", "-", NULL);
	ssh_command_env(&env);
	strv_addf(&env, "SSH_AUTH_SOCK=%s", agent->socket);
	strv_addf(&env, "SSH_ASKPASS=%s", asker);
	strv_add(&env, "SSH_ASKPASS_REQUIRE=force");
	/* The agent's socket is there a moment before it listens. */
	do
		rc = ssh_run_tool(master->account->state->worker, strv_list(&argv), strv_list(&env), key, TOOL_MS, &text, &code, err);
	while (rc == 0 && code == NO_AGENT && loop_now_ms() < until_ms && fiber_sleep(10, NULL) == 0);
	mem_wipe(key, strlen(key));
	if (rc < 0)
		return -1;
	if (code == 0)
		return 0;
	if (code == NO_AGENT || code > 127)
		return err_set(err, ERR_SYSTEM, "ssh-add cannot give the key to an agent on the worker's machine (status %d).", code);
	return err_set(err, ERR_AUTH, "The private key cannot be read: privateKeyPassphrase is wrong, or the key's text is damaged.");
}

static int start_agent(struct ssh_master *master, struct agent *agent, struct err *err)
{
	struct ssh_dir *dir = &master->account->state->dir;
	struct ssh_file passphrase = {.fd = -1}, asker = {.fd = -1};
	cleanup_free char *once = ssh_dir_name(dir);
	cleanup_free char *line = xasprintf("%s\n", master->config.passphrase);

	*agent = (struct agent){.master = master, .socket = ssh_dir_name(dir)};
	agent->fiber = fiber_start(run_agent, agent);
	int rc = wait_for_agent(agent, err);
	if (rc == 0)
		rc = ssh_file_create(dir, line, 0600, &passphrase, err);
	if (rc == 0)
		rc = make_asker(dir, &passphrase, once, &asker, err);
	if (rc == 0)
		rc = add_key(master, agent, asker.path, err);
	mem_wipe(line, strlen(line));
	ssh_file_close(&passphrase);
	ssh_file_close(&asker);
	rmdir(once);
	return rc;
}

/* --- logging in --- */

static int take_words(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct login *login = arg;

	if (stream == OUTPUT_STDOUT) {
		login->ready = true;
		event_set(&login->master->changed);
		return 0;
	}
	size_t room = login->text.max - login->text.len;
	buf_append(&login->text, bytes, n < room ? n : room);
	return 0;
}

static void run_ssh(void *arg)
{
	struct login *login = arg;
	cleanup_strv struct strv env = {0};
	struct process_result result;
	struct init *init;

	ssh_command_env(&env);
	struct process_spec spec = {
		.file = "ssh",
		.argv = strv_list(&login->argv),
		.envp = strv_list(&env),
		.search_path = ssh_command_path(),
		.on_output = take_words,
		.on_output_arg = login,
		.grace_ms = GRACE_MS,
	};
	if (worker_init(login->master->account->state->worker, &init, &login->err) == 0 &&
	    process_run(init, &spec, &result, &login->err) == 0 && result.outcome == PROCESS_NOT_STARTED)
		err_set(&login->err, ERR_SYSTEM, "ssh cannot be started on the worker's machine: %s. Is OpenSSH's client installed?",
			strerror(result.start_errno));
	login->ended = true;
	event_set(&login->master->changed);
}

static void close_files(struct ssh_master *master)
{
	ssh_file_close(&master->key);
	ssh_file_close(&master->known_hosts);
}

/* The master serves until it is told to leave, nobody has used it for long, or it ends. */
static void serve(struct login *login)
{
	struct ssh_master *master = login->master;
	bool set;

	master->state = SSH_MASTER_READY;
	master->idle_since_ms = loop_now_ms();
	ssh_account_log_in_ended(master->account);
	while (!login->ended) {
		int64_t idle_ms = IDLE_MS - (loop_now_ms() - master->idle_since_ms);

		if (master->sessions == 0 && (master->leaving || idle_ms <= 0))
			break;
		if (event_wait_for(&master->changed, master->sessions == 0 ? idle_ms : -1, &set, NULL) < 0)
			break;
	}
	master->leaving = true;
}

static int wait_for_login(struct login *login, struct err *err)
{
	struct ssh_master *master = login->master;
	/* ssh's own limit is of the connection and the banner; then keys and log-in take a few round trips, at each hop. */
	int64_t ms = (int64_t)(master->config.connect_seconds * 1000) * (int64_t)(master->config.hop_count + 1) + 10000;
	int64_t until_ms = loop_now_ms() + ms;
	bool set;

	while (!login->ready && !login->ended) {
		if (master->leaving && master->sessions == 0)
			return err_set(err, ERR_CANCELLED, "nobody waits for the connection any more");
		if (loop_now_ms() >= until_ms) {
			cleanup_free char *where = ssh_destination(&master->config);
			return err_set(err, ERR_TRANSPORT, "Logging in at %s timed out.", where);
		}
		if (event_wait_for(&master->changed, until_ms - loop_now_ms(), &set, err) < 0)
			return -1;
	}
	return login->ready ? 0 : 1;
}

static void end_login(struct login *login, struct fiber *fiber)
{
	struct fiber_scope scope;

	if (!login->ended)
		fiber_cancel(fiber);
	shield_enter(&scope, DEADLINE_NONE);
	while (!login->ended)
		(void)event_wait(&login->master->changed, NULL);
	scope_leave(&scope);
}

/* BatchMode never asks: such a key is just refused. */
static int explain_key(struct ssh_master *master, const char *text, struct err *err)
{
	cleanup_strv struct strv argv = {0}, env = {0};
	cleanup_buf struct buf said = BUF_INIT(TEXT_MAX);
	int code;

	if (!strstr(text, "Permission denied") || !master->key.path)
		return 0;
	strv_add_all(&argv, "ssh-keygen", "-y", "-P", "", "-f", master->key.path, NULL);
	ssh_command_env(&env);
	if (ssh_run_tool(master->account->state->worker, strv_list(&argv), strv_list(&env), NULL, TOOL_MS, &said, &code, NULL) < 0 ||
	    code == 0 || !said.data || !strstr(said.data, "incorrect passphrase"))
		return 0;
	return err_set(err, ERR_AUTH, "The private key has a passphrase: set privateKeyPassphrase.");
}

/* One ssh, to its end. 0: it has served, or is to be tried again (*ret_again). */
static int log_in_and_serve(struct ssh_master *master, const struct ssh_login *how, bool *ret_again, struct err *err)
{
	struct login login = {.master = master, .text = BUF_INIT(TEXT_MAX)};

	*ret_again = false;
	unlink(master->socket); /* of an earlier try */
	ssh_command_master(&master->config, how, master->socket, &login.argv);
	struct fiber *fiber = fiber_start(run_ssh, &login);
	int rc = wait_for_login(&login, err);

	if (rc == 0) {
		close_files(master);
		serve(&login);
	}
	end_login(&login, fiber);
	if (rc == 1) {
		const char *text = login.text.data ? login.text.data : "";
		rc = -1;
		if (login.err.kind != ERR_NONE)
			err_move(err, &login.err);
		else if (ssh_text_is_crowded(text))
			*ret_again = true;
		if (err->kind == ERR_NONE && explain_key(master, text, err) == 0)
			ssh_explain(&master->config, text, err);
	}
	err_clear(&login.err);
	buf_deinit(&login.text);
	strv_deinit(&login.argv);
	return rc;
}

static int log_in(struct ssh_master *master, const struct agent *agent, struct err *err)
{
	const struct ssh_account *account = master->account;
	struct ssh_login how = {
		.identity = master->key.path,
		.agent = agent->socket,
		.known_hosts = account->accepted.path ? account->accepted.path : master->known_hosts.path,
	};

	for (int i = 0; i < TRIES; i++) {
		unsigned char random;
		bool again;

		err_clear(err);
		if (log_in_and_serve(master, &how, &again, err) == 0)
			return 0;
		if (!again || i + 1 == TRIES)
			return -1;
		random_bytes(&random, 1);
		if (fiber_sleep(((int64_t)BACKOFF_MS << i) + random, NULL) < 0)
			return -1;
	}
	return -1;
}

static void run_master(void *arg)
{
	struct ssh_master *master = arg;
	struct ssh_account *account = master->account;
	struct ssh_state *state = account->state;
	struct agent agent = {0};

	if (!master->config.passphrase || start_agent(master, &agent, &master->err) == 0)
		(void)log_in(master, &agent, &master->err);
	bool was_starting = master->state == SSH_MASTER_STARTING;

	stop_agent(&agent);
	close_files(master);
	unlink(master->socket);
	master->state = SSH_MASTER_ENDED;
	master->main_running = false;
	master->fiber = NULL;
	if (master->sessions == 0)
		ssh_master_free(master);
	if (was_starting)
		ssh_account_log_in_ended(account);
	else
		ssh_account_wake(account);
	if (--state->masters == 0)
		event_set(&state->stopped);
}

/* --- beginning --- */

static int write_files(struct ssh_master *master, const struct ssh_config *c, struct err *err)
{
	struct ssh_account *account = master->account;
	struct ssh_dir *dir = &account->state->dir;
	cleanup_free char *hosts = xasprintf("%s\n", c->known_hosts ? c->known_hosts : "");
	char *key;

	if (ssh_key_mend(c->private_key, &key, err) < 0)
		return -1;
	int rc = c->passphrase ? 0 : ssh_file_create(dir, key, 0600, &master->key, err);
	str_wipe_free(key);
	if (rc < 0)
		return -1;
	if (c->strict)
		return ssh_file_create(dir, hosts, 0600, &master->known_hosts, err);
	return account->accepted.path ? 0 : ssh_file_create(dir, hosts, 0600, &account->accepted, err);
}

/* What logging in needs, in the master's own memory: the call that begins it may end before. */
static void copy_config(const struct ssh_config *c, struct ssh_config *ret)
{
	*ret = (struct ssh_config){
		.host = xstrdup(c->host),
		.username = xstrdup(c->username),
		.private_key = c->passphrase ? xstrdup(c->private_key) : NULL,
		.passphrase = c->passphrase ? xstrdup(c->passphrase) : NULL,
		.port = c->port,
		.alive_seconds = c->alive_seconds,
		.connect_seconds = c->connect_seconds,
		.strict = c->strict,
		.hop_count = c->hop_count,
		.hops = c->hop_count ? xcalloc(c->hop_count, sizeof *c->hops) : NULL,
	};
	for (size_t i = 0; i < c->hop_count; i++)
		ret->hops[i] = (struct ssh_hop){xstrdup(c->hops[i].user), xstrdup(c->hops[i].host), c->hops[i].port};
}

int ssh_master_start(struct ssh_account *account, const struct ssh_config *c, struct ssh_master **ret, struct err *err)
{
	struct ssh_state *state = account->state;

	if (ssh_dir_open(&state->dir, err) < 0)
		return -1;
	struct ssh_master *master = xcalloc(1, sizeof *master);
	master->account = account;
	master->key.fd = master->known_hosts.fd = -1;
	list_init(&master->link);
	if (write_files(master, c, err) < 0) {
		ssh_master_free(master);
		return -1;
	}
	copy_config(c, &master->config);
	master->socket = ssh_dir_name(&state->dir);
	master->main_running = true;
	list_append(&account->masters, &master->link);
	account->starting++;
	state->masters++;
	master->fiber = fiber_start(run_master, master);
	*ret = master;
	return 0;
}

void ssh_master_free(struct ssh_master *master)
{
	list_remove(&master->link);
	close_files(master);
	ssh_config_deinit(&master->config);
	err_clear(&master->err);
	free(master->socket);
	free(master);
}
