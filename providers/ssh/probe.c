/* What fails is told step by step, in the order in which it has to be put right. */
#include "ssh.h"

#include <string.h>

#define SCAN_MS 8000
#define SCAN_BYTES 16384

enum step { STEP_CONFIG, STEP_CONNECTION, STEP_HOST_KEY, STEP_LOGIN, STEP_COMMANDS, STEP_WORKSPACE, STEPS };

static const struct {
	const char *code, *passed, *advice;
} steps[STEPS] = {
	[STEP_CONFIG] = {"config", "The settings are complete.", "Set it right in the environment's settings."},
	[STEP_CONNECTION] = {"connection", "An SSH server answers at host and port.",
			     "Are host and port right, is sshd running there, and does a firewall let this machine through?"},
	[STEP_HOST_KEY] = {"host-key", "The host's key is the one that is known.",
			   "Compare the key below with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub over there) before you "
			   "put it into knownHosts."},
	[STEP_LOGIN] = {"login", "The user's key is accepted.",
			"Put the public half of privateKey into ~/.ssh/authorized_keys of that user; only the user may write to that file and to "
			"its folders. sshd's log on the machine says why it refuses."},
	[STEP_COMMANDS] = {"commands", "Commands run over there.",
			   "The user needs an ordinary login shell. ssh user@host true, by hand, has to end silently."},
	[STEP_WORKSPACE] = {"workspace", "A directory was made in the workspace path, used and removed again.",
			    "remoteWorkspacePath has to be a directory that the user may write to, on a disk with room."},
};

static void tell(json_t *list, const char *severity, const char *code, const char *message)
{
	json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "severity", severity, "message", message, "code", code));
}

/* --- what the host offers --- */

/* The lines of the host's keys, as knownHosts wants them. Owned; NULL: it offers none. */
static char *scan_keys(struct op *op, const struct ssh_config *c)
{
	cleanup_strv struct strv argv = {0}, env = {0};
	cleanup_buf struct buf said = BUF_INIT(SCAN_BYTES);
	cleanup_buf struct buf keys = BUF_INIT(BUF_UNBOUNDED);
	int code;

	strv_add_all(&argv, "ssh-keyscan", "-T", "5", "-p", NULL);
	strv_addf(&argv, "%d", (int)c->port);
	strv_add_all(&argv, "--", c->host, NULL);
	ssh_command_env(&env);
	if (ssh_run_tool(op_worker(op), strv_list(&argv), strv_list(&env), NULL, SCAN_MS, &said, &code, NULL) < 0 || !said.data)
		return NULL;
	for (const char *line = said.data; *line;) {
		size_t len = strcspn(line, "\n");
		if (*line != '#' && (memmem(line, len, " ssh-", 5) || memmem(line, len, " ecdsa-", 7))) {
			buf_append(&keys, line, len);
			buf_append_char(&keys, '\n');
		}
		line += len + (line[len] == '\n');
	}
	return keys.len > 0 && utf8_is_valid(keys.data, keys.len) ? buf_steal(&keys) : NULL;
}

/* --- the steps --- */

static enum step failed_step(const struct err *e)
{
	if (err_is(e, ERR_INVALID))
		return STEP_CONFIG;
	if (err_is(e, ERR_CONFLICT))
		return STEP_HOST_KEY;
	return err_is(e, ERR_AUTH) ? STEP_LOGIN : STEP_CONNECTION;
}

static int try_command(struct op *op, struct ssh_account *account, const struct ssh_config *c, struct err *err)
{
	cleanup_ssh_words struct ssh_words words = {0};
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&script, "e 0\n");
	return ssh_session_ask(op, account, c, &script, /* control= */ false, SCAN_MS, &words, err);
}

static enum step find_out(struct op *op, const struct probe_params *p, struct ssh_config *c, const char **ret_shell, struct err *err)
{
	cleanup_ssh_place struct ssh_place place = {0};
	struct ssh_master *master;
	bool gone;

	if (ssh_config_read(op, p->base.config, c, err) < 0)
		return failed_step(err);
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, c);
	if (ssh_master_take(account, c, /* control= */ false, &master, err) < 0)
		return failed_step(err);
	ssh_master_give(master);
	if (try_command(op, account, c, err) < 0)
		return STEP_COMMANDS;
	if (ssh_lease_make(op, account, c, /* seconds= */ 0, &place, ret_shell, err) < 0 ||
	    ssh_lease_end(op, account, c, &place, /* remove= */ true, &gone, err) < 0)
		return STEP_WORKSPACE;
	return STEPS;
}

/* A config without any key fails before it connects: what the machine offers tells whether it is there at all. */
static enum step look_at_keys(struct op *op, const struct ssh_config *c, char **ret_keys, struct err *e)
{
	/* A jump host is in front: from here the host cannot be seen. */
	if (c->hop_count > 0)
		return STEP_HOST_KEY;
	*ret_keys = scan_keys(op, c);
	if (*ret_keys || c->known_hosts)
		return STEP_HOST_KEY;
	cleanup_free char *where = ssh_destination(c);
	err_clear(e);
	err_set(e, ERR_TRANSPORT, "No SSH server answers at %s.", where);
	return STEP_CONNECTION;
}

static json_t *diagnostics(enum step failed, const char *keys, const struct err *e)
{
	json_t *list = json_array();

	for (enum step i = 0; i < failed; i++) {
		/* A host key that is refused without a look at the host shows no connection. */
		if (i != STEP_CONNECTION || failed != STEP_HOST_KEY || keys)
			tell(list, "info", steps[i].code, steps[i].passed);
	}
	if (failed == STEPS)
		return list;
	cleanup_free char *message = xasprintf("%s\n%s", err_text(e), steps[failed].advice);

	tell(list, "error", steps[failed].code, message);
	if (keys) {
		cleanup_free char *text =
			xasprintf("The host offers these keys now. That alone does not prove that they are its own:\n%s", keys);
		tell(list, "warning", "offered-keys", text);
	}
	return list;
}

int ssh_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};
	cleanup_err struct err e = ERR_INIT;
	cleanup_free char *keys = NULL;
	const char *shell = NULL;
	enum step failed = find_out(op, p, &c, &shell, &e);

	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	if (failed == STEP_HOST_KEY)
		failed = look_at_keys(op, &c, &keys, &e);
	ret->diagnostics = diagnostics(failed, keys, &e);
	ret->ok = failed == STEPS;
	if (ret->ok) {
		cleanup_free char *where = ssh_destination(&c);
		ret->summary = xasprintf("Connected to %s over SSH.", where);
		ret->metadata = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "provider", SSH_NAME, "host", c.host, "port", (int)c.port,
					  "username", c.username, "remoteWorkspacePath", c.workspace, "shellCommand", shell);
	} else {
		ret->summary = xstrdup("SSH sandbox probe failed.");
		ret->metadata = json_pack("{s:s, s:s}", "provider", SSH_NAME, "error", err_text(&e));
	}
	return 0;
}
