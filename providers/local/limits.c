/*
 * Which limit is enforced by what. A control group counts the sandbox as a whole. Without one:
 *
 *	memoryMb      RLIMIT_DATA: what each process may write to of its own. Not RLIMIT_AS: JavaScript engines reserve address space by
 *	              the gigabyte and touch little of it.
 *	maxProcesses  RLIMIT_NPROC: since Linux 5.14 it counts within the sandbox's user namespace, if it is set from outside after
 *	              that was made. It does not bind root.
 *	cpus          nothing
 *
 * cpuSeconds is RLIMIT_CPU, set for each command (execute.c): the init, which lives long, must not die of it.
 */
#include "local.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static bool process_limit_counts_by_namespace(void)
{
	struct utsname name;
	char *end;

	if (uname(&name) < 0)
		return false;
	long major = strtol(name.release, &end, 10);
	long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
	return major > 5 || (major == 5 && minor >= 14);
}

void limits_plan(const struct local_config *config, const struct cgroup_site *site, bool as_root, struct limits_plan *ret)
{
	*ret = (struct limits_plan){0};
	if (config->memory_mb > 0)
		ret->memory = site->paths[CGROUP_MEMORY] ? LIMIT_CGROUP : LIMIT_RLIMIT;
	if (config->max_processes > 0 && site->paths[CGROUP_PIDS])
		ret->processes = LIMIT_CGROUP;
	else if (config->max_processes > 0)
		ret->processes = !as_root && process_limit_counts_by_namespace() ? LIMIT_RLIMIT : LIMIT_UNENFORCED;
	if (config->cpus > 0)
		ret->cpus = site->paths[CGROUP_CPU] ? LIMIT_CGROUP : LIMIT_UNENFORCED;
	if (config->cpu_seconds > 0)
		ret->cpu_seconds = LIMIT_RLIMIT;
}

static int set_rlimit(pid_t pid, __rlimit_resource_t resource, int64_t value)
{
	const struct rlimit limit = {.rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value};

	return prlimit(pid, resource, &limit, NULL);
}

int limits_apply(const struct limits_plan *plan, const struct local_config *config, pid_t pid, struct err *err)
{
	if (plan->memory == LIMIT_RLIMIT && set_rlimit(pid, RLIMIT_DATA, config->memory_mb * 1024 * 1024) < 0)
		return err_set_errno(err, errno, "limit the sandbox's memory");
	if (plan->processes == LIMIT_RLIMIT && set_rlimit(pid, RLIMIT_NPROC, config->max_processes) < 0)
		return err_set_errno(err, errno, "limit the sandbox's processes");
	return 0;
}

void limits_describe_gaps(const struct limits_plan *plan, struct strv *ret)
{
	if (plan->memory == LIMIT_RLIMIT)
		strv_add(ret, "memoryMb limits each process, not the sandbox as a whole: this machine gives us no control group "
			      "for memory.");
	if (plan->processes == LIMIT_UNENFORCED)
		strv_add(ret, "maxProcesses is not enforced: this machine gives us no control group for processes, and the "
			      "resource limit "
			      "does not bind root. Run the worker as an ordinary user, or where cgroup v2 is delegated to it.");
	if (plan->cpus == LIMIT_UNENFORCED)
		strv_add(ret, "cpus is not enforced: this machine gives us no control group for processors.");
}
