/*
 * What a sandbox sees, as bubblewrap's arguments.
 *
 * The root is an empty file system in memory, into which the view is built: the system read-only (the host's /usr and what belongs to
 * it, or each directory of the rootfs), a /etc of its own, /proc of its own processes, a minimal /dev, then the lease's directories, then
 * what the user shares. At the end the root itself becomes read-only. Later arguments cover earlier ones.
 *
 * User namespaces inside are left allowed: browsers and agents' own sandboxes need them, and what they could mount is what they see.
 */
#include "local.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static const char *const host_dirs[] = {"bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr", NULL};
/* Directories of a rootfs that the sandbox has of its own. */
static const char *const own_dirs[] = {"dev", "home", "proc", "run", "sys", "tmp", NULL};
/*
 * A worker that is root is, to the kernel, root inside as well, only without capabilities. That is still enough to write what belongs to
 * root in /proc, e.g. kernel.core_pattern, with which the host would run any program. bubblewrap itself covers bus, irq and sysrq-trigger.
 */
static const char *const proc_of_root[] = {"acpi", "asound", "dynamic_debug", "fs", "mtrr", "scsi", NULL};

static bool is_listed(const char *name, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(name, *list) == 0)
			return true;
	}
	return false;
}

/* --- the system --- */

/* One entry of the root: a link as it is, a directory or file read-only. What is not there is left out. */
static void add_root_entry(const char *root, const char *name, struct strv *ret)
{
	cleanup_free char *path = xasprintf("%s/%s", root, name);
	char target[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) < 0)
		return;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, target, sizeof target - 1);
		if (n < 0)
			return;
		target[n] = '\0';
		strv_add_all(ret, "--symlink", target, NULL);
	} else if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
		strv_add_all(ret, "--ro-bind", path, NULL);
	} else {
		return;
	}
	strv_addf(ret, "/%s", name);
}

static void add_all(struct strv *to, const struct strv *from)
{
	for (size_t i = 0; i < from->count; i++)
		strv_add(to, from->items[i]);
}

static void add_host_system(const struct sandbox_spec *spec, struct strv *ret)
{
	for (size_t i = 0; host_dirs[i]; i++)
		add_root_entry(spec->system_root, host_dirs[i], ret);
	add_all(ret, &spec->etc->arguments);
	strv_add_all(ret, "--dir", "/run", "--dir", "/var", "--symlink", "../run", "/var/run", "--symlink", "../tmp", "/var/tmp",
		     NULL);
}

static bool is_dir(const char *root, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", root, name);
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void add_rootfs_entries(const struct sandbox_spec *spec, struct dirent *const *entries, int count, struct strv *ret)
{
	const char *rootfs = spec->config->rootfs;

	for (int i = 0; i < count; i++) {
		cleanup_free char *target = xasprintf("/%s", entries[i]->d_name);
		bool is_workdir = sandbox_workdir_is_private(spec->config) && strcmp(target, spec->config->workdir) == 0;

		if (entries[i]->d_name[0] != '.' && !is_listed(entries[i]->d_name, own_dirs) && !is_workdir)
			add_root_entry(rootfs, entries[i]->d_name, ret);
	}
	add_all(ret, &spec->etc->arguments);
	strv_add_all(ret, "--dir", "/run", NULL);
	if (is_dir(rootfs, "var") && is_dir(rootfs, "var/tmp")) {
		strv_add(ret, "--bind");
		strv_addf(ret, "%s/tmp", spec->lease_dir);
		strv_add(ret, "/var/tmp");
	}
}

static int add_rootfs(const struct sandbox_spec *spec, struct strv *ret, struct err *err)
{
	const char *rootfs = spec->config->rootfs;
	struct dirent **entries;
	struct stat st, root;

	if (stat(rootfs, &st) < 0)
		return err_set(err, ERR_INVALID, "rootfs %s cannot be used: %s.", rootfs, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_INVALID, "rootfs %s is not a directory.", rootfs);
	if (stat("/", &root) == 0 && st.st_dev == root.st_dev && st.st_ino == root.st_ino)
		return err_set(err, ERR_INVALID, "rootfs %s is this machine's own root directory.", rootfs);
	if (!is_dir(rootfs, "usr") && !is_dir(rootfs, "bin"))
		return err_set(err, ERR_INVALID, "rootfs %s does not hold a Linux system: it has neither usr nor bin.", rootfs);
	int count = scandir(rootfs, &entries, NULL, alphasort);
	if (count < 0)
		return err_set(err, ERR_INVALID, "rootfs %s cannot be read: %s.", rootfs, strerror(errno));
	add_rootfs_entries(spec, entries, count, ret);
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return 0;
}

/* --- the rest of the view --- */

static void add_kernel_dirs(const struct sandbox_spec *spec, struct strv *ret)
{
	strv_add_all(ret, "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", NULL);
	for (size_t i = 0; spec->as_root && proc_of_root[i]; i++) {
		cleanup_free char *path = xasprintf("/proc/%s", proc_of_root[i]);
		if (access(path, F_OK) == 0)
			strv_add_all(ret, "--ro-bind", path, path, NULL);
	}
	strv_add_all(ret, "--dev", "/dev", NULL);
}

bool sandbox_workdir_is_private(const struct local_config *c)
{
	return strcmp(c->workdir, SANDBOX_HOME) != 0 && strcmp(c->workdir, "/tmp") != 0 && !local_config_shares(c, c->workdir);
}

static void add_lease_dirs(const struct sandbox_spec *spec, struct strv *ret)
{
	strv_add(ret, "--bind");
	strv_addf(ret, "%s/home", spec->lease_dir);
	strv_add_all(ret, SANDBOX_HOME, "--bind", NULL);
	strv_addf(ret, "%s/tmp", spec->lease_dir);
	strv_add(ret, "/tmp");
	if (sandbox_workdir_is_private(spec->config)) {
		strv_add(ret, "--bind");
		strv_addf(ret, "%s/workspace", spec->lease_dir);
		strv_add(ret, spec->config->workdir);
	}
}

static int add_binds(const struct local_config *c, struct strv *ret, struct err *err)
{
	for (size_t i = 0; i < c->bind_count; i++) {
		const struct local_bind *bind = &c->binds[i];
		struct stat st;

		if (stat(bind->source, &st) < 0)
			return err_set(err, ERR_INVALID, "binds[%zu].source %s cannot be used: %s.", i, bind->source,
				       strerror(errno));
		strv_add_all(ret, bind->writable ? "--bind" : "--ro-bind", bind->source, bind->target, NULL);
	}
	return 0;
}

static void add_namespaces(const struct sandbox_spec *spec, struct strv *ret)
{
	strv_add_all(ret, spec->bwrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		     "--unshare-cgroup-try", NULL);
	if (!spec->config->host_network)
		strv_add(ret, "--unshare-net");
	strv_addf(ret, "--uid");
	strv_addf(ret, "%d", SANDBOX_UID);
	strv_addf(ret, "--gid");
	strv_addf(ret, "%d", SANDBOX_GID);
	strv_add_all(ret, "--hostname", spec->hostname, "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", NULL);
	if (spec->info_fd >= 0) {
		strv_add(ret, "--info-fd");
		strv_addf(ret, "%d", spec->info_fd);
	}
}

int sandbox_arguments(const struct sandbox_spec *spec, struct strv *ret, struct err *err)
{
	add_namespaces(spec, ret);
	if (!spec->config->rootfs)
		add_host_system(spec, ret);
	else if (add_rootfs(spec, ret, err) < 0)
		return -1;
	add_kernel_dirs(spec, ret);
	add_lease_dirs(spec, ret);
	if (add_binds(spec->config, ret, err) < 0)
		return -1;
	strv_add_all(ret, "--remount-ro", "/", "--chdir", "/", "--", NULL);
	return 0;
}

const char *sandbox_shell(const struct local_config *config, const char *system_root)
{
	static const char *const places[] = {"bin/bash", "usr/bin/bash", NULL};
	const char *root = config->rootfs ? config->rootfs : system_root;

	for (size_t i = 0; places[i]; i++) {
		cleanup_free char *path = xasprintf("%s/%s", root, places[i]);
		if (access(path, X_OK) == 0)
			return "bash";
	}
	return "sh";
}
