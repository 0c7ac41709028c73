/* What this machine offers for sandboxes, and what a person can do where it does not. */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"
#include "fs.h"

#include <fcntl.h>
#include <string.h>

static char *find_in(const char *path_list, const char *name)
{
	for (const char *part = path_list; part && *part;) {
		size_t n = strcspn(part, ":");
		cleanup_free char *path = xasprintf("%.*s/%s", (int)n, part, name);

		if (*part == '/' && access(path, X_OK) == 0)
			return steal(&path);
		part += n + (part[n] == ':');
	}
	return NULL;
}

char *sandbox_find_bwrap(void)
{
	char *found = find_in(getenv("PATH"), "bwrap");

	return found ? found : find_in("/usr/bin:/usr/local/bin:/bin", "bwrap");
}

/* The number in a file of /proc/sys, or -1. */
static long read_sysctl(const char *proc_sys, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", proc_sys, name);
	cleanup_buf struct buf text = BUF_INIT(64);
	char *end;

	if (fs_read_file(AT_FDCWD, path, &text, NULL) < 0 || text.len == 0)
		return -1;
	long number = strtol(text.data, &end, 10);
	return end > text.data ? number : -1;
}

static bool in_container(void)
{
	return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
}

char *sandbox_explain_refusal(const char *proc_sys, bool as_root)
{
	if (read_sysctl(proc_sys, "user/max_user_namespaces") == 0)
		return xstrdup(
			"User namespaces are disabled on this machine: run `sudo sysctl -w user.max_user_namespaces=15000`.");
	if (!as_root && read_sysctl(proc_sys, "kernel/unprivileged_userns_clone") == 0)
		return xstrdup("User namespaces are disabled for ordinary users: run `sudo sysctl -w "
			       "kernel.unprivileged_userns_clone=1`.");
	if (!as_root && read_sysctl(proc_sys, "kernel/apparmor_restrict_unprivileged_userns") == 1)
		return xstrdup(
			"AppArmor keeps ordinary users from user namespaces: give bwrap a profile that allows `userns`, or run "
			"`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`.");
	if (in_container())
		return xstrdup("This is a container, which mostly may not make namespaces: start it with `--security-opt "
			       "seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, or "
			       "with `--privileged`.");
	return NULL;
}
