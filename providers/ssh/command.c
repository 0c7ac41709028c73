/* wire: ssh, The command line. Neither the user's nor the system's configuration is read. */
#include "ssh.h"

#include "protocol/shell_quote.h"

#include <string.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

static void add_option(struct strv *argv, const char *name, const char *value)
{
	strv_add(argv, "-o");
	strv_addf(argv, "%s=%s", name, value);
}

static void add_common(struct strv *argv)
{
	strv_add_all(argv, "ssh", "-F", "none", "-T", NULL);
	add_option(argv, "BatchMode", "yes");
	add_option(argv, "LogLevel", "ERROR");
	add_option(argv, "ForwardAgent", "no");
	add_option(argv, "ForwardX11", "no");
	add_option(argv, "EscapeChar", "none");
	add_option(argv, "UpdateHostKeys", "no");
	add_option(argv, "GlobalKnownHostsFile", "/dev/null");
}

static void add_login(struct strv *argv, const struct ssh_config *c, const struct ssh_login *login)
{
	cleanup_free char *connect = xasprintf("%d", (int)c->connect_seconds);
	cleanup_free char *alive = xasprintf("%d", (int)c->alive_seconds);

	/* An agent of ours has one key, which is no file: then all that it has are tried. */
	add_option(argv, "IdentitiesOnly", login->agent ? "no" : "yes");
	add_option(argv, "IdentityFile", login->identity ? login->identity : "none");
	add_option(argv, "IdentityAgent", login->agent ? login->agent : "none");
	add_option(argv, "PreferredAuthentications", "publickey");
	add_option(argv, "UserKnownHostsFile", login->known_hosts);
	add_option(argv, "StrictHostKeyChecking", c->strict ? "yes" : "accept-new");
	add_option(argv, "CheckHostIP", "no");
	add_option(argv, "ConnectTimeout", connect);
	add_option(argv, "ConnectionAttempts", "1");
	add_option(argv, "ServerAliveInterval", alive);
	add_option(argv, "ServerAliveCountMax", "2");
	add_option(argv, "TCPKeepAlive", "yes");
}

static void add_destination(struct strv *argv, const char *user, const char *host, int port)
{
	strv_add(argv, "-p");
	strv_addf(argv, "%d", port);
	strv_add_all(argv, "-l", user, NULL);
	strv_add_all(argv, "--", host, NULL);
}

static char *quoted_line(const struct strv *argv)
{
	struct buf line = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < argv->count; i++) {
		if (i > 0)
			buf_append_char(&line, ' ');
		shell_quote(&line, argv->items[i]);
	}
	return buf_steal(&line);
}

/*
 * The way through the first count hops to host:port, as a shell command. -J would start programs that know none of our options; so the
 * way to each hop is spelled out in the command that goes there. No text in it has a % (config.c).
 */
static char *proxy_command(const struct ssh_config *c, const struct ssh_login *login, size_t count, const char *host, int port)
{
	const struct ssh_hop *hop = &c->hops[count - 1];
	cleanup_strv struct strv argv = {0};

	add_common(&argv);
	add_option(&argv, "ControlMaster", "no");
	add_option(&argv, "ControlPath", "none");
	add_login(&argv, c, login);
	if (count > 1) {
		cleanup_free char *before = proxy_command(c, login, count - 1, hop->host, hop->port);
		add_option(&argv, "ProxyCommand", before);
	}
	strv_add(&argv, "-W");
	strv_addf(&argv, "[%s]:%d", host, port);
	add_destination(&argv, hop->user, hop->host, hop->port);
	return quoted_line(&argv);
}

void ssh_command_master(const struct ssh_config *c, const struct ssh_login *login, const char *socket, struct strv *ret)
{
	add_common(ret);
	add_login(ret, c, login);
	add_option(ret, "ClearAllForwardings", "yes");
	add_option(ret, "ControlMaster", "yes");
	add_option(ret, "ControlPersist", "no");
	add_option(ret, "ControlPath", socket);
	/* Runs when the socket is there. */
	add_option(ret, "PermitLocalCommand", "yes");
	add_option(ret, "LocalCommand", "echo ready");
	if (c->hop_count > 0) {
		cleanup_free char *proxy = proxy_command(c, login, c->hop_count, c->host, (int)c->port);
		add_option(ret, "ProxyCommand", proxy);
	}
	strv_add(ret, "-N");
	add_destination(ret, c->username, c->host, (int)c->port);
}

void ssh_command_session(const struct ssh_config *c, const char *socket, const char *text, struct strv *ret)
{
	add_common(ret);
	add_option(ret, "ClearAllForwardings", "yes");
	add_option(ret, "PermitLocalCommand", "no");
	add_option(ret, "ControlMaster", "no");
	add_option(ret, "ControlPath", socket);
	/* Without the master it would make a connection of its own. */
	add_option(ret, "ProxyCommand", "false");
	add_destination(ret, c->username, c->host, (int)c->port);
	strv_add(ret, text);
}

const char *ssh_command_path(void)
{
	const char *path = getenv("PATH");

	return str_nonempty(path) ? path : DEFAULT_PATH;
}

void ssh_command_env(struct strv *ret)
{
	strv_addf(ret, "PATH=%s", ssh_command_path());
	/* Texts are understood by explain.c; what ssh gives to a shell is for sh. */
	strv_add_all(ret, "LC_ALL=C", "SHELL=/bin/sh", NULL);
}

static int take_text(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct buf *text = arg;

	buf_append(text, bytes, n < text->max - text->len ? n : text->max - text->len);
	return 0;
}

int ssh_run_tool(struct worker *worker, char *const *argv, char *const *envp, const char *input, int64_t ms, struct buf *output,
		 int *ret_code, struct err *err)
{
	struct input text = INPUT_FROM_TEXT(input, input ? strlen(input) : 0);
	struct process_result result;
	struct init *init;
	struct process_spec spec = {
		.file = argv[0],
		.argv = argv,
		.envp = envp,
		.search_path = ssh_command_path(),
		.input = input ? &text : NULL,
		.on_output = take_text,
		.on_output_arg = output,
		.timeout_ms = ms,
	};

	if (worker_init(worker, &init, err) < 0 || process_run(init, &spec, &result, err) < 0)
		return -1;
	if (result.outcome == PROCESS_NOT_STARTED && !result.timed_out)
		return err_set(err, ERR_SYSTEM, "%s cannot be started on the worker's machine: %s. Is OpenSSH's client installed?", argv[0],
			       strerror(result.start_errno));
	*ret_code = result.timed_out ? 128 : result.outcome == PROCESS_EXITED ? result.exit_code : 127;
	return 0;
}
