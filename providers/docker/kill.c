/*
 * wire: docker, 5. The API cannot end a command: closing its stream does not, and its pid is one of the engine's machine. But a command is
 * started with a mark in its environment, which its children inherit; so a second command finds them all, in whatever session and group
 * they are, and kills them, together with what descends from them. Nothing is written in the container, and the command is started as it
 * is. What clears its environment and lets its parents die before survives, until the container is removed.
 */
#include "docker.h"

#include <string.h>

#define KILL_MS 8000

/* $1: the mark. Exit status 0: nothing is left; 1: something would not go. Prints a line if there was anything. */
static const char script[] =
	"mark=" DOCKER_MARK "=$1; n=0\n"
	"while [ $n -lt 20 ]; do\n"
	"  found=' '\n"
	"  for e in /proc/[0-9]*/environ; do\n"
	"    p=${e#/proc/}; p=${p%/environ}\n"
	"    [ $p = $$ ] && continue\n"
	"    if tr '\\0' '\\n' <$e | grep -qxF \"$mark\"; then found=\"$found$p \"; fi\n"
	"  done 2>/dev/null\n"
	"  more=1\n"
	"  while [ -n \"$more\" ] && [ \"$found\" != ' ' ]; do\n"
	"    more=\n"
	"    for s in /proc/[0-9]*/stat; do\n"
	"      p=${s#/proc/}; p=${p%/stat}\n"
	"      case $found in *\" $p \"*) continue;; esac\n"
	"      [ $p = 1 ] || [ $p = $$ ] && continue\n"
	"      read -r line <$s || continue\n"
	"      set -- ${line##*) }\n"
	"      [ \"$1\" = Z ] && continue\n"
	"      case $found in *\" $2 \"*|*\" $4 \"*) found=\"$found$p \"; more=1;; esac\n"
	"    done 2>/dev/null\n"
	"  done\n"
	"  [ \"$found\" = ' ' ] && exit 0\n"
	"  [ $n = 0 ] && echo found\n"
	"  kill -KILL $found 2>/dev/null\n"
	"  n=$((n+1))\n"
	"done\n"
	"exit 1\n";

static int run_script(struct op *op, const struct docker_config *c, const char *container, const char *user, const char *mark, bool *ret_found,
		      struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT(4096);
	const struct docker_script killer = {.container = container,
					     .user = user,
					     .text = script,
					     .args = (const char *const[]){mark, NULL},
					     .ms = KILL_MS - 1000,
					     .is_killer = true};
	struct docker_ended ended;

	if (docker_exec_script(op, c, &killer, &out, &ended, err) < 0)
		return -1;
	*ret_found = out.len > 0;
	if (ended.timed_out || ended.exit_code != 0)
		return err_set(err, ERR_REMOTE, "the script that ends commands %s", ended.timed_out ? "does not end" : "could not end all of it");
	return 0;
}

static int kill_marked(struct op *op, const struct docker_config *c, const char *container, const char *user, const char *mark, bool *ret_found,
		       struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (run_script(op, c, container, user, mark, ret_found, &e) == 0)
		return 0;
	/* Nothing runs in a container that is gone or has stopped. */
	if (err_is(&e, ERR_NOT_FOUND) || err_is(&e, ERR_CONFLICT))
		return 0;
	if (err_is(&e, ERR_TRANSPORT))
		return err_move(err, &e);
	op_log(op, LOG_LEVEL_WARN, NULL, "A command in container %s could not be ended by itself (%s): the container is killed.", container,
	       err_text(&e));
	*ret_found = true;
	return docker_container_kill(op, c, container, err);
}

int docker_kill_marked(struct op *op, const struct docker_config *c, const char *container, const char *user, const char *mark,
		       bool *ret_found, struct err *err)
{
	struct fiber_scope scope;
	bool found = false;

	shield_enter(&scope, KILL_MS);
	int rc = kill_marked(op, c, container, user, mark, &found, err);

	scope_leave(&scope);
	if (ret_found)
		*ret_found = found;
	return rc;
}
