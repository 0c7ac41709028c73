/*
 * wire: e2b, What a better client does, 7 and 10. The service kills a command's own process, and what that has started goes on as
 * nobody's child. So it is looked for a little before the limit passes, and ended after it; and a command that is given up is ended as a
 * tree, from its root. Both by a shell in the sandbox, which needs nothing but /proc.
 */
#include "e2b.h"

#include <string.h>

#define LOOK_LIMIT_MS 2000
#define SIGNAL_PART 3 /* of the time that there is, for the plain signal after the script */
#define LIST_MAX ((size_t)64 << 10)

/* kids PID: its children. st PID: the fields of its stat after the name. */
static const char functions[] =
	"kids() { for s in /proc/[0-9]*/stat; do read -r l 2>/dev/null <\"$s\" || continue; set -- $1 ${l##*) }; "
	"[ \"$3\" = \"$1\" ] && { s=${s%/stat}; echo \"${s#/proc/}\"; }; done; }; "
	"born() { read -r l 2>/dev/null <\"/proc/$1/stat\" || return; set -- ${l##*) }; echo \"${20}\"; }; "
	"end() { local k; kill -STOP \"$1\" 2>/dev/null; for k in $(kids \"$1\"); do end \"$k\"; done; kill -KILL \"$1\" "
	"2>/dev/null; }; "
	"list() { local k; for k in $(kids \"$1\"); do echo \"$k:$(born \"$k\")\"; list \"$k\"; done; }; ";

static int take(void *arg, enum output_stream stream, const void *bytes, size_t n, struct err *err)
{
	struct buf *out = arg;

	(void)err;
	if (out && stream == OUTPUT_STDOUT)
		(void)buf_append(out, bytes, n);
	return 0;
}

static int run_script(struct e2b_run *run, const char *script, double limit_ms, struct buf *out)
{
	struct e2b_command command = {.script = script, .limit_ms = limit_ms, .harmless = true, .on_output = take, .arg = out};
	cleanup_e2b_end struct e2b_end end = {0};
	struct e2b_failure failure;

	if (e2b_command_run(run->op, run->client, run->sandbox, &command, &end, &failure, NULL) < 0 || end.timed_out)
		return -1;
	return 0;
}

void e2b_tree_look(struct e2b_run *run)
{
	cleanup_free char *script = xasprintf("%slist %lld", functions, (long long)run->pid);
	cleanup_buf struct buf out = BUF_INIT(LIST_MAX);

	run->looked = true;
	if (run_script(run, script, LOOK_LIMIT_MS, &out) < 0 || out.len == 0)
		return;
	/* It goes into a script: only what we asked for. */
	if (out.data[strspn(out.data, "0123456789:\n")] != '\0')
		return;
	for (char *c = out.data; *c; c++)
		*c = *c == '\n' ? ' ' : *c;
	free(run->started);
	run->started = buf_steal(&out);
}

void e2b_tree_end_rest(struct e2b_run *run, int64_t ms)
{
	struct fiber_scope scope;

	if (!run->started)
		return;
	/* A pid that was given to another process since has another time of birth. */
	cleanup_free char *script = xasprintf(
		"%sfor x in %s; do p=${x%%%%:*}; [ \"$(born \"$p\")\" = \"${x#*:}\" ] && end \"$p\"; done; :", functions,
		run->started);
	shield_enter(&scope, ms);
	(void)run_script(run, script, (double)ms, NULL);
	scope_leave(&scope);
}

/* --- a command whose start was not answered --- */

static bool is_known(const struct e2b_run *run, int64_t pid)
{
	const struct e2b_state *state = op_state(run->op);

	list_for_each(item, &state->runs) {
		const struct e2b_run *other = container_of(item, struct e2b_run, link);
		if (other != run && other->pid == pid && strcmp(other->sandbox->id, run->sandbox->id) == 0)
			return true;
	}
	return false;
}

/* Another of the same words has no pid yet: which is whose cannot be told. */
static bool has_twin(const struct e2b_run *run)
{
	const struct e2b_state *state = op_state(run->op);

	list_for_each(item, &state->runs) {
		const struct e2b_run *other = container_of(item, struct e2b_run, link);
		if (other != run && other->pid == 0 && strcmp(other->sandbox->id, run->sandbox->id) == 0 &&
		    strcmp(other->command->script, run->command->script) == 0)
			return true;
	}
	return false;
}

static bool is_ours(const struct e2b_run *run, const json_t *process)
{
	const json_t *args = json_object_get(json_object_get(process, "config"), "args");
	int64_t pid = json_integer_value(json_object_get(process, "pid"));

	return pid > 0 && str_eq(json_string_value(json_array_get(args, 2)), run->command->script) && !is_known(run, pid);
}

static void find(struct e2b_run *run, int64_t ms)
{
	cleanup_json json_t *body = json_object();
	cleanup_json json_t *answer = NULL;
	struct e2b_failure failure;
	const json_t *process;
	size_t i;

	if (has_twin(run))
		return;
	if (e2b_envd_call(run->op, run->client, run->sandbox, "/process.Process/List", body, ms, &answer, &failure, NULL) < 0)
		return;
	json_array_foreach(json_object_get(answer, "processes"), i, process) {
		if (is_ours(run, process))
			run->pid = json_integer_value(json_object_get(process, "pid"));
	}
}

static void end_tree(struct e2b_run *run, int64_t ms)
{
	if (run->pid == 0)
		find(run, ms / 2);
	if (run->pid == 0)
		return;
	cleanup_free char *script = xasprintf("%send %lld", functions, (long long)run->pid);
	int64_t script_ms = ms - ms / SIGNAL_PART;
	if (run_script(run, script, (double)script_ms, NULL) < 0)
		(void)e2b_envd_kill(run->op, run->client, run->sandbox, run->pid, ms, NULL);
}

void e2b_tree_end(struct e2b_run *run, int64_t ms)
{
	struct fiber_scope scope;

	shield_enter(&scope, ms);
	end_tree(run, ms);
	scope_leave(&scope);
}
