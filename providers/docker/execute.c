/* wire: docker, 4. */
#include "docker.h"

#include "protocol/shell_quote.h"

#include <math.h>
#include <string.h>

#define TIMER_MAX_MS 2147483647
#define EXIT_KILLED 137 /* 128 + SIGKILL */

static int on_output(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err)
{
	return output_write(op_output(arg), stream, bytes, n, err);
}

static int64_t timeout_of(const struct docker_config *c, const struct execute_params *p)
{
	double ms = p->has_timeout && p->timeout_ms > 0 ? p->timeout_ms : c->timeout_ms;

	return (int64_t)fmin(ceil(ms), TIMER_MAX_MS);
}

static const char *cwd_of(const struct execute_params *p)
{
	const char *remote = json_string_value(json_object_get(p->lease.metadata, "remoteCwd"));

	return str_nonempty(p->cwd) ? p->cwd : str_nonempty(remote) ? remote : NULL;
}

/* A container that nobody used has stopped by itself, as it was told to: it is started again. What stopped it else is told. */
static int revive(struct op *op, const struct docker_config *c, const char *name, struct err *err)
{
	cleanup_docker_container struct docker_container container = {0};

	if (docker_container_inspect(op, c, name, &container, err) < 0)
		return -1;
	if (container.status == DOCKER_STOPPED && container.exit_code == DOCKER_EXIT_EXPIRED)
		return err_set(err, ERR_CONFLICT, "The container %s has reached the time at which it was to end.", name);
	if (container.status == DOCKER_PAUSED || (container.status == DOCKER_STOPPED && container.exit_code == DOCKER_EXIT_IDLE))
		return docker_container_ensure_running(op, c, &container, err);
	if (container.status == DOCKER_RUNNING)
		return 0;
	return err_set(err, ERR_CONFLICT,
		       "The container %s does not run: it is %s, with exit code %d. Somebody stopped or killed it, or its engine was restarted; "
		       "resume the lease to start it again.",
		       name, container.status_text, container.exit_code);
}

static int run(struct op *op, const struct docker_config *c, const struct execute_params *p, struct docker_ended *ret, struct err *err)
{
	const char *lease_id = p->lease.provider_lease_id;
	cleanup_strv struct strv argv = {0};
	cleanup_err struct err e = ERR_INIT;

	strv_add(&argv, p->command);
	for (size_t i = 0; p->args[i]; i++)
		strv_add(&argv, p->args[i]);
	const struct docker_command command = {
		.container = lease_id,
		.argv = strv_list(&argv),
		.env = p->env,
		.cwd = cwd_of(p),
		.user = c->user,
		.input = p->stdin_data,
		.timeout_ms = timeout_of(c, p),
		.on_output = on_output,
		.arg = op,
	};

	if (docker_exec(op, c, &command, ret, &e) == 0)
		return 0;
	/* The command was not even made. */
	if (!err_is(&e, ERR_CONFLICT))
		return err_move(err, &e);
	if (revive(op, c, lease_id, err) < 0)
		return -1;
	return docker_exec(op, c, &command, ret, err);
}

/* SIGKILL may have come from the kernel or have hit the whole container: the next command would tell, but this one's owner asks now. */
static void explain_kill(struct op *op, const struct docker_config *c, const char *name, json_t *metadata)
{
	cleanup_docker_container struct docker_container container = {0};

	if (docker_container_inspect(op, c, name, &container, NULL) == 0 && container.status == DOCKER_RUNNING)
		return;
	op_log(op, LOG_LEVEL_WARN, NULL, "The container %s was killed or stopped while a command ran in it.", name);
	json_object_set_new(metadata, "containerStatus", json_string(container.status_text ? container.status_text : "unknown"));
}

int docker_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_err struct err e = ERR_INIT;
	struct docker_ended ended;
	int64_t since_ms = loop_now_ms();

	if (!str_nonempty(p->lease.provider_lease_id))
		return err_set(err, ERR_INVALID, "No provider lease ID available for execution.");
	if (docker_config_read(op, p->base.config, &c, err) < 0 || shell_check_env(p->env, err) < 0 ||
	    docker_lease_check(op, &c, &p->base, p->lease.provider_lease_id, err) < 0)
		return -1;
	int64_t ready_ms = loop_now_ms();

	if (run(op, &c, p, &ended, &e) < 0) {
		if (err_is(&e, ERR_NOT_FOUND))
			docker_lease_forget(op, &c, &p->base, p->lease.provider_lease_id);
		return err_move(err, &e);
	}
	ret->timed_out = ended.timed_out;
	ret->has_exit_code = !ended.timed_out;
	ret->exit_code = ended.exit_code;
	ret->metadata = json_pack("{s:I, s:I}", "durationMs", (json_int_t)(loop_now_ms() - ready_ms), "getDurationMs",
				  (json_int_t)(ready_ms - since_ms));
	if (ret->has_exit_code && ret->exit_code == EXIT_KILLED)
		explain_kill(op, &c, p->lease.provider_lease_id, ret->metadata);
	return 0;
}
