/*
 * How a sandbox comes into being: what it shall look like is checked, its control group is made, bubblewrap builds the view and becomes
 * our init in it (process.h). Limits that count within the sandbox are set on the init once it is there, before any command runs.
 */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct launch {
	int info_fd;
	const struct etc_view *etc;
	const struct cgroup *cgroup;
};

/* Between fork and exec. */
static int launch_set_up(void *arg)
{
	const struct launch *launch = arg;

	if (launch->info_fd >= 0 && fcntl(launch->info_fd, F_SETFD, 0) < 0)
		return -1;
	for (size_t i = 0; i < launch->etc->fd_count; i++) {
		if (fcntl(launch->etc->fds[i], F_SETFD, 0) < 0)
			return -1;
	}
	return cgroup_join(launch->cgroup);
}

/* bwrap has told it before the sandbox could start. */
static int read_init_pid(int info_fd, pid_t *ret, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	char *room;
	ssize_t n;

	while ((room = buf_reserve(&text, 1024)) && (n = read(info_fd, room, 1024)) > 0)
		buf_added(&text, (size_t)n);
	cleanup_json json_t *info = json_loadb(text.data, text.len, 0, NULL);
	*ret = (pid_t)json_integer_value(json_object_get(info, "child-pid"));
	return *ret > 0 ? 0 : err_set(err, ERR_PROTOCOL, "bubblewrap does not tell the sandbox's process id");
}

/* bwrap's words are short; what to do about them is ours to say. */
static int explain_failure(struct err *err)
{
	static const char *const signs[] = {"namespace", "uid map", "not permitted", "ermission denied", "No space left", NULL};
	cleanup_free char *hint = NULL;

	if (err_is(err, ERR_CANCELLED) || err_is(err, ERR_TIMEOUT) || err_is(err, ERR_INVALID))
		return -1;
	for (size_t i = 0; signs[i] && !hint; i++) {
		if (strstr(err_text(err), signs[i]))
			hint = sandbox_explain_refusal("/proc/sys", geteuid() == 0);
	}
	if (hint) {
		char *text = xasprintf("%s. %s", err_text(err), hint);
		free(err->message);
		err->message = text;
	}
	return err_wrap(err, "The sandbox could not be started");
}

static int launch_init(struct local_lease *lease, const struct limits_plan *plan, const struct strv *arguments,
		       const struct etc_view *etc, int info[2], struct err *err)
{
	struct launch launch = {.info_fd = info[1], .etc = etc, .cgroup = &lease->cgroup};
	struct init_options options = {
		.launcher = strv_list(arguments), .child_setup = launch_set_up, .child_setup_arg = &launch};
	struct fiber_scope scope;
	pid_t pid;

	deadline_enter(&scope, SANDBOX_START_MS);
	int rc = init_start(&options, &lease->init, err);
	scope_leave(&scope);
	if (rc < 0 || info[0] < 0)
		return rc;
	info[1] = close_fd(info[1]);
	if (read_init_pid(info[0], &pid, err) == 0 && limits_apply(plan, &lease->config, pid, err) == 0)
		return 0;
	init_stop(steal(&lease->init));
	return -1;
}

static void close_pair(int pair[2])
{
	pair[0] = close_fd(pair[0]);
	pair[1] = close_fd(pair[1]);
}

/* No sandbox sees what belongs to another one, or to us. */
static int check_binds(const struct local_lease *lease, struct err *err)
{
	cleanup_free char *state = realpath(lease->record.state_dir, NULL);

	if (!state)
		return err_set_errno(err, errno, "state directory %s", lease->record.state_dir);
	for (size_t i = 0; i < lease->config.bind_count; i++) {
		cleanup_free char *source = realpath(lease->config.binds[i].source, NULL);

		if (!source)
			continue; /* sandbox_arguments tells */
		if (local_path_is_in(state, source) || local_path_is_in(source, state))
			return err_set(err, ERR_INVALID,
				       "binds[%zu].source %s cannot be shared: the sandboxes' state directory %s would be "
				       "visible. Share a "
				       "narrower directory, or set stateDir elsewhere.",
				       i, lease->config.binds[i].source, state);
	}
	return 0;
}

/* The sandbox of a lease whose group is made. */
static int start_in_group(struct local_lease *lease, const struct limits_plan *plan, const char *bwrap, struct err *err)
{
	cleanup_free char *hostname = local_lease_hostname(lease->record.id);
	cleanup_strv struct strv arguments = {0};
	cleanup(etc_view_deinit) struct etc_view etc = {0};
	bool needs_pid = plan->memory == LIMIT_RLIMIT || plan->processes == LIMIT_RLIMIT;
	int info[2] = {-1, -1};

	if (check_binds(lease, err) < 0 || local_mount_points_make(&lease->config, lease->record.dir, err) < 0 ||
	    local_etc_view("", lease->config.rootfs, hostname, &etc, err) < 0)
		return -1;
	if (needs_pid && pipe2(info, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_set_errno(err, errno, "make a pipe");
	struct sandbox_spec spec = {
		.config = &lease->config,
		.bwrap = bwrap,
		.lease_dir = lease->record.dir,
		.hostname = hostname,
		.etc = &etc,
		.system_root = "",
		.as_root = geteuid() == 0,
		.info_fd = info[1],
	};
	int rc = sandbox_arguments(&spec, &arguments, err);
	if (rc == 0)
		rc = launch_init(lease, plan, &arguments, &etc, info, err);
	close_pair(info);
	return rc;
}

int local_sandbox_start(struct local_state *state, struct local_lease *lease, struct err *err)
{
	const struct cgroup_site *site = local_cgroup_site(state);
	cleanup_free char *bwrap = sandbox_find_bwrap();
	struct limits_plan plan;

	if (!bwrap)
		return err_set(err, ERR_UNSUPPORTED,
			       "bubblewrap is not installed on this machine: run `sudo apt-get install bubblewrap` "
			       "(or your distribution's equivalent).");
	limits_plan(&lease->config, site, geteuid() == 0, &plan);
	cgroup_remove_left(site, lease->record.id);
	if (cgroup_create(site, lease->record.id, &lease->config, &lease->cgroup, err) == 0 &&
	    start_in_group(lease, &plan, bwrap, err) == 0)
		return 0;
	cgroup_remove(&lease->cgroup);
	return explain_failure(err);
}

void local_sandbox_stop(struct local_lease *lease)
{
	init_stop(steal(&lease->init));
	cgroup_remove(&lease->cgroup);
}
