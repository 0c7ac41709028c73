/*
 * wire: ssh, What the remote side makes of the command. Scripts for any POSIX shell, each run by /bin/sh as leader of a session and process
 * group of its own. They speak to marks.c: mark B first on both streams, mark E last, with a code and a word.
 */
#include "ssh.h"

#include "protocol/shell_quote.h"

#include <inttypes.h>
#include <string.h>

/*
 * Reads single bytes, so that what follows the script in the input stays there for the command. The script is run only once the line that
 * ends it has come: one that was cut short is never begun.
 */
#define LOADER                                                                                                                   \
	"exec /bin/sh -c 'n=$(printf \"\\nx\"); n=${n%%x}; s=; while IFS= read -r l; do [ \"$l\" = %s ] && { eval \"$s\"; exit; }; " \
	"s=\"$s$l$n\"; done; exit 255'"

/*
 * e: says how it ended. k: kills what has $1 in its environment, until a look finds none (no -- for kill: dash takes that for a number).
 * grep would stop at the first NUL where it is busybox's; GNU's can look at all of them at once.
 */
#define FUNCTIONS                                                                                                                \
	"e() { printf '\\001E%s:%%s\\n' \"$1\"; printf '\\001E%s:%%s\\n' \"$1\" >&7; }\n"                                        \
	"p() { for f in /proc/[0-9]*/environ; do\n"                                                                              \
	"tr '\\0' '\\n' <\"$f\" | grep -qxF \"$1\" && { f=${f#/proc/}; echo \"${f%%/environ}\"; }; done; }\n"                    \
	"g() { for f in $(grep -lzxF \"$1\" /proc/[0-9]*/environ); do f=${f#/proc/}; echo \"${f%%/environ}\"; done; }\n"         \
	"k() { printf 'a\\0b\\0' | grep -qzxF b && l=g || l=p\n"                                                                 \
	"i=0; while [ $i -lt 25 ]; do v=$($l \"$1\"); [ -z \"$v\" ] && return 0; kill -KILL $v; i=$((i+1)); "                    \
	"[ $i -gt 4 ] && sleep 0.1; done; return 1; }\n"

char *ssh_script_loader(const char *nonce)
{
	return xasprintf(LOADER, nonce);
}

/* From here on fd 7 is the error stream; what the shell itself says about its jobs goes nowhere. */
void ssh_script_begin(struct buf *out, const char *nonce)
{
	buf_printf(out, "printf '\\001B%s:%%d\\n' \"$$\" >&2; printf '\\001B%s\\n'\nexec 7>&2\n", nonce, nonce);
	buf_printf(out, FUNCTIONS, nonce, nonce);
}

void ssh_script_end(struct buf *out, const char *nonce)
{
	buf_printf(out, "\n%s\n", nonce);
}

void ssh_place_deinit(struct ssh_place *p)
{
	free(p->dir);
	free(p->marker);
	free(p->name);
	*p = (struct ssh_place){0};
}

/* --- a command --- */

/* What a shell gives another meaning or value to, when it is assigned: such a variable is set by env, which shows it in its arguments. */
static bool is_special_to_shells(const char *name)
{
	static const char *const names[] = {"_",      "UID",      "EUID",   "GID",      "EGID",         "PPID",          "SHELLOPTS",
					    "LINENO", "OPTIND",   "OPTARG", "RANDOM",   "SRANDOM",      "SECONDS",       "DIRSTACK",
					    "GROUPS", "FUNCNAME", "PWD",    "OLDPWD",   "EPOCHSECONDS", "EPOCHREALTIME", "HISTCMD",
					    "IFS",    "ERRNO",    "USERNAME", "POSIXLY_CORRECT"};

	if (str_starts_with(name, "BASH"))
		return true;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static void append_exports(struct buf *out, const struct ssh_command_spec *spec, const char *nonce)
{
	const char *key;
	json_t *value;

	/* A shell that is bash has something to say about a locale that is not there. */
	buf_append_str(out, "{ export PSW_EXEC=");
	buf_printf(out, "%s PSW_LEASE=", nonce);
	shell_quote(out, spec->place->name);
	buf_append_str(out, "\n");
	json_object_foreach((json_t *)(uintptr_t)spec->params->env, key, value) {
		if (!json_is_string(value) || is_special_to_shells(key))
			continue;
		buf_printf(out, "export %s=", key);
		shell_quote(out, json_string_value(value));
		buf_append_str(out, "\n");
	}
	buf_append_str(out, "} 2>/dev/null\n");
}

static void append_command(struct buf *out, const struct execute_params *p)
{
	const char *key;
	json_t *value;
	bool with_env = false;

	buf_append_str(out, "exec ");
	json_object_foreach((json_t *)(uintptr_t)p->env, key, value) {
		if (!json_is_string(value) || !is_special_to_shells(key))
			continue;
		buf_printf(out, "%s%s=", with_env ? "" : "env ", key);
		shell_quote(out, json_string_value(value));
		buf_append_char(out, ' ');
		with_env = true;
	}
	shell_quote(out, p->command);
	for (char *const *arg = p->args; *arg; arg++) {
		buf_append_char(out, ' ');
		shell_quote(out, *arg);
	}
	buf_append_char(out, '\n');
}

/*
 * The command's input, and the life-line: the session's input ends only when the connection does. Then the command and all that it has
 * started are killed, also if nobody is left to ask for it; in the background, since the command's end ends the life-line. It tells its own
 * pid first for that.
 */
static void append_feeder(struct buf *out, const char *nonce, size_t bytes)
{
	buf_append_str(out, "exec 5<&0\n"
			    "{ exec 7>&-; w=; read -r w x </proc/self/stat || w=$(exec /bin/sh -c 'echo $PPID'); printf '%s\\n' \"$w\"\n");
	if (bytes > 0)
		buf_printf(out, "head -c %zu <&5\n", bytes);
	buf_printf(out,
		   "exec >/dev/null; while read -r x; do :; done <&5; { k PSW_EXEC=%s; kill -KILL -$$; } & } | {\n"
		   "exec 5<&-; read -r w\n",
		   nonce);
}

/* The life-line of a command that reads the session's own input, whose end means nothing: it watches sshd's process. */
static void append_watcher(struct buf *out, const char *nonce)
{
	buf_printf(out,
		   "{ w=; kill -0 \"$PPID\" && { { exec </dev/null >/dev/null 7>&-; while kill -0 \"$PPID\"; do sleep 1; done; "
		   "{ k PSW_EXEC=%s; kill -KILL -$$; } & } & w=$!; }\n",
		   nonce);
}

static void append_cd(struct buf *out, const char *dir)
{
	buf_append_str(out, "cd ");
	shell_quote(out, dir);
}

/*
 * c: the command, after the user's profiles if $l is 1, and how it ended. What its shell says is caught: a + when it is about to begin,
 * perhaps a word on the signal that killed it, and $?; the number alone would not tell a signal from an exit code. (bash has no such word
 * in a command substitution, and none as sh.) Fails if the command has not begun.
 */
static void append_runner(struct buf *out, const char *nonce, const struct ssh_command_spec *spec)
{
	buf_append_str(out, "[ -n \"$BASH_VERSION\" ] && set +o posix\nc() { { (\n");
	if (spec->login_shell) {
		buf_append_str(out, "[ $l = 1 ] && { " SHELL_LOGIN_PROFILES "; } </dev/null >/dev/null 2>&1\n");
		append_cd(out, spec->cwd);
		buf_append_char(out, '\n');
	}
	append_exports(out, spec, nonce);
	buf_append_str(out, "printf + >&2; exec 2>&7 7>&-\n");
	append_command(out, spec->params);
	buf_append_str(out, ") >&6 6>&-; echo \"$?\"; } 2>&1 | { m=$(cat); case $m in *+*) ;; *) exit 1 ;; esac\n"
			    "m=${m#*+}; case $m in *[!0-9]*) m=${m##*[!0-9]}; x=$x-signal ;; esac\n"
			    "[ -n \"$w\" ] && kill -KILL \"$w\"\n"
			    "e \"$m:$x\"; }; }\n");
}

/* A profile may end the shell, as one that is not written for this shell does: then the command runs without. */
void ssh_script_command(struct buf *out, const char *nonce, const struct ssh_command_spec *spec)
{
	buf_append_str(out, "exec 2>/dev/null\n[ -f ");
	shell_quote(out, spec->place->marker);
	buf_append_str(out, " ] && [ -d ");
	shell_quote(out, spec->place->dir);
	buf_append_str(out, " ] && [ ! -h ");
	shell_quote(out, spec->place->dir);
	buf_append_str(out, " ] || { e 1:lease; exit 0; }\n");
	append_cd(out, spec->cwd);
	buf_append_str(out, " || { e 1:cwd; exit 0; }\n");
	append_runner(out, nonce, spec);
	if (spec->has_length)
		append_feeder(out, nonce, spec->input_bytes);
	else
		append_watcher(out, nonce);
	buf_append_str(out, "exec 6>&1; x=; l=1; c || { x=profile; l=0; c; }; }\n");
}

/* --- ending --- */

void ssh_script_kill(struct buf *out, const char *name, const char *value, long group)
{
	buf_printf(out, "exec 2>/dev/null\nr=0\nk %s=%s || r=1:alive\n", name, value);
	if (group > 1)
		buf_printf(out, "kill -KILL -%ld\n", group);
	buf_append_str(out, "e $r\n");
}

/* --- leases --- */

/* The first line of the file beside a lease; the next ones are its worker and the time of its end, or 0. */
#define MARKER_TEXT "A directory of a sandbox worker for Paperclip. It is removed with its lease."

/* Removes the lease when its time, $t, is over, whoever is there then. */
static void append_guard(struct buf *out, const struct ssh_place *place)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	buf_printf(&script, "trap '' HUP\n" FUNCTIONS, "", "");
	buf_printf(&script,
		   "while l=$(($3 - $(date +%%s))); [ $l -gt 0 ]; do [ $l -gt 60 ] && l=60; sleep $l; done\n"
		   "k PSW_LEASE=%s; rm -rf -- \"$1\"; rm -f -- \"$2\"\n",
		   place->name);
	buf_append_str(out, "PSW_GUARD=");
	shell_quote(out, place->name);
	buf_append_str(out, " /bin/sh -c ");
	shell_quote(out, script.data);
	buf_append_str(out, " sh \"$d\" \"$f\" \"$t\" </dev/null >/dev/null 2>&1 7>&- &\n");
}

void ssh_script_acquire(struct buf *out, const struct ssh_config *c, const struct ssh_place *place, const char *owner, int64_t seconds)
{
	buf_printf(out, "s=%" PRId64 "; d=", seconds);
	shell_quote(out, place->dir);
	buf_append_str(out, "; f=");
	shell_quote(out, place->marker);
	buf_append_str(out, "\nmkdir -p -- ");
	shell_quote(out, c->workspace);
	buf_printf(out, " && umask 077 && t=%s && printf '%%s\\n' '" MARKER_TEXT "' %s \"$t\"", seconds > 0 ? "$(($(date +%s) + s))" : "0", owner);
	buf_append_str(out, " >\"$f\" && { [ -d \"$d\" ] || mkdir -m 700 -- \"$d\"; } && cd \"$d\" ||\n"
			    "{ r=$?; rmdir -- \"$d\" 2>/dev/null; rm -f -- \"$f\"; e $r; exit 0; }\n");
	if (seconds > 0)
		append_guard(out, place);
	buf_append_str(out, "command -v bash >/dev/null 2>&1 && echo bash || echo sh\ne 0\n");
}

void ssh_script_list(struct buf *out, const struct ssh_config *c)
{
	buf_append_str(out, "cd ");
	shell_quote(out, c->workspace);
	buf_append_str(out, " || { e 1; exit 0; }\nfor f in .paperclip-*.lease; do [ -f \"$f\" ] && [ ! -h \"$f\" ] || continue\n"
			    "o=; t=; { read -r x; read -r o; read -r t; } <\"$f\"\n"
			    "n=${f#.}; [ \"${t:-0}\" != 0 ] && [ \"$t\" -le \"$(date +%s)\" ] && t=over || t=-\n"
			    "printf '%s %s %s\\n' \"${n%.lease}\" \"${o:--}\" \"$t\"; done\ne 0\n");
}

void ssh_script_look(struct buf *out, const struct ssh_place *place)
{
	buf_append_str(out, "d=");
	shell_quote(out, place->dir);
	buf_append_str(out, "; f=");
	shell_quote(out, place->marker);
	/* That something is not there is said only if its parent could be looked at. */
	buf_append_str(out, "\n[ -d \"${d%/*}\" ] && [ ! -x \"${d%/*}\" ] && { echo \"${d%/*}: permission denied\" >&2; e 1; exit 0; }\n"
			    "if [ -h \"$d\" ]; then e 1:foreign; exit 0; fi\n"
			    "if [ ! -d \"$d\" ]; then rm -f \"$f\"; e 1:gone; exit 0; fi\n"
			    "[ -f \"$f\" ] || { e 1:foreign; exit 0; }\n");
}

void ssh_script_release(struct buf *out, const struct ssh_place *place, bool remove)
{
	/* What runs there is ended even if the directory is gone. */
	buf_append_str(out, "{ k PSW_LEASE=");
	shell_quote(out, place->name);
	if (remove) {
		buf_append_str(out, " && k PSW_GUARD=");
		shell_quote(out, place->name);
	}
	buf_append_str(out, "; } 2>/dev/null || { e 1:alive; exit 0; }\n");
	ssh_script_look(out, place);
	/* What takes its own rights away may still be removed. */
	if (remove)
		buf_append_str(out, "rm -rf -- \"$d\" 2>/dev/null || { chmod -R u+rwx -- \"$d\" 2>/dev/null; rm -rf -- \"$d\"; } ||\n"
				    "{ e 1; exit 0; }\nrm -f -- \"$f\"\n");
	buf_append_str(out, "e 0\n");
}
