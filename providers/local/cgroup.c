/*
 * Control groups for leases.
 *
 * With v2 a place is usable if it and its cgroup.procs belong to us and its controllers are, or can be, handed to children. Our own
 * group mostly cannot: a group with processes in it hands nothing on. So its ancestors are asked as well, up to the first that is not
 * ours. With v1 each controller has a tree of its own; only root can use them.
 *
 * A lease gets two levels: <site>/paperclip-sandbox-<id> has the limits, its child "run" the processes. What a process could mount of
 * the group file system from a cgroup namespace inside starts at "run": it cannot reach its own limits.
 */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"
#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define GROUP_PREFIX "paperclip-sandbox-"
#define RUN_NAME "run"
#define CPU_PERIOD_US 100000
#define REMOVE_TRIES 50

static const char *const controller_names[CGROUP_CONTROLLERS] = {"memory", "pids", "cpu"};

const char *cgroup_kind_name(enum cgroup_kind kind)
{
	return kind == CGROUP_V2 ? "cgroup v2" : kind == CGROUP_V1 ? "cgroup v1" : "none";
}

/* --- files --- */

static int write_value(const char *dir, const char *file, const char *value)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, file);
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value) ? 0 : -1;
}

static bool has_word(const char *text, const char *word, const char *separators)
{
	size_t n = strlen(word);

	for (const char *at = text; at && *at;) {
		at += strspn(at, separators);
		size_t len = strcspn(at, separators);
		if (len == n && memcmp(at, word, n) == 0)
			return true;
		at += len;
	}
	return false;
}

static bool file_has_word(const char *dir, const char *file, const char *word)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, file);
	cleanup_buf struct buf text = BUF_INIT(4096);

	return fs_read_file(AT_FDCWD, path, &text, NULL) == 0 && has_word(text.data, word, " \n");
}

static bool can_write(const char *dir, const char *file)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, file);

	return access(path, W_OK) == 0;
}

/* --- where our own groups are --- */

/* Our group in the hierarchy of the controller ("" is v2's), from lines "N:controllers:/path". Owned. */
static char *own_group(const char *self_cgroup, const char *controller)
{
	for (const char *line = self_cgroup; *line;) {
		size_t n = strcspn(line, "\n");
		cleanup_free char *copy = xstrndup(line, n);
		char *rest = copy;
		(void)strsep(&rest, ":");
		const char *names = strsep(&rest, ":");

		if (rest && (*controller ? has_word(names, controller, ",") : *names == '\0'))
			return xstrdup(rest);
		line += n + (line[n] == '\n');
	}
	return NULL;
}

/* "\040" and its like, as the kernel writes spaces in mountinfo. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in; out++) {
		if (in[0] == '\\' && in[1] && in[2] && in[3]) {
			*out = (char)((in[1] - '0') * 64 + (in[2] - '0') * 8 + (in[3] - '0'));
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

struct mount {
	char *point; /* owned */
	char *root;  /* owned: which part of the hierarchy is mounted there */
};

static void mount_deinit(struct mount *m)
{
	free(m->point);
	free(m->root);
	*m = (struct mount){0};
}

/* One line of mountinfo: "id parent dev root point options … - type source super-options". */
static bool read_mount(char *line, const char *type, const char *controller, struct mount *ret)
{
	char *rest = strstr(line, " - ");
	const char *fields[5];

	if (!rest)
		return false;
	*rest = '\0';
	rest += 3;
	const char *this_type = strsep(&rest, " ");
	(void)strsep(&rest, " ");
	if (strcmp(this_type, type) != 0 || (*controller && !has_word(rest, controller, ",\n")))
		return false;
	for (size_t i = 0; i < 5; i++) {
		fields[i] = strsep(&line, " ");
		if (!fields[i])
			return false;
	}
	*ret = (struct mount){.root = xstrdup(fields[3]), .point = xstrdup(fields[4])};
	unescape(ret->root);
	unescape(ret->point);
	return true;
}

static bool find_mount(const char *mountinfo, const char *type, const char *controller, struct mount *ret)
{
	for (const char *line = mountinfo; *line;) {
		size_t n = strcspn(line, "\n");
		cleanup_free char *copy = xstrndup(line, n);

		if (read_mount(copy, type, controller, ret))
			return true;
		line += n + (line[n] == '\n');
	}
	return false;
}

/* The directory of our group, and in *ret_top the mount point above which there is nothing. NULL: not to be seen from here. Owned. */
static char *own_dir(const char *self_cgroup, const char *mountinfo, const char *prefix, const char *type, const char *controller,
		     char **ret_top)
{
	cleanup_free char *group = own_group(self_cgroup, controller);
	cleanup(mount_deinit) struct mount mount = {0};

	if (!group || !find_mount(mountinfo, type, controller, &mount) || strstr(group, "/.."))
		return NULL;
	if (!local_path_is_in(group, mount.root))
		return NULL;
	const char *below = strcmp(mount.root, "/") == 0 ? group : group + strlen(mount.root);
	*ret_top = xasprintf("%s%s", prefix, mount.point);
	return strcmp(below, "/") == 0 ? xstrdup(*ret_top) : xasprintf("%s%s", *ret_top, below);
}

/* --- the site --- */

/* Children of dir can be limited in this way. */
static bool hands_on(const char *dir, const char *controller)
{
	cleanup_free char *order = xasprintf("+%s", controller);

	if (!file_has_word(dir, "cgroup.controllers", controller))
		return false;
	return file_has_word(dir, "cgroup.subtree_control", controller) || write_value(dir, "cgroup.subtree_control", order) == 0;
}

static bool is_ours(const char *dir)
{
	return access(dir, W_OK) == 0 && can_write(dir, "cgroup.procs");
}

static bool find_v2(const char *self_cgroup, const char *mountinfo, const char *prefix, struct cgroup_site *ret)
{
	cleanup_free char *top = NULL;
	cleanup_free char *dir = own_dir(self_cgroup, mountinfo, prefix, "cgroup2", "", &top);

	while (dir && is_ours(dir)) {
		if (hands_on(dir, "memory") && hands_on(dir, "pids")) {
			ret->kind = CGROUP_V2;
			ret->paths[CGROUP_MEMORY] = xstrdup(dir);
			ret->paths[CGROUP_PIDS] = xstrdup(dir);
			ret->paths[CGROUP_CPU] = hands_on(dir, "cpu") ? xstrdup(dir) : NULL;
			return true;
		}
		if (strcmp(dir, top) == 0)
			return false;
		*strrchr(dir, '/') = '\0';
	}
	return false;
}

static void find_v1(const char *self_cgroup, const char *mountinfo, const char *prefix, struct cgroup_site *ret)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		cleanup_free char *top = NULL;
		cleanup_free char *dir = own_dir(self_cgroup, mountinfo, prefix, "cgroup", controller_names[i], &top);

		if (dir && is_ours(dir)) {
			ret->kind = CGROUP_V1;
			ret->paths[i] = steal(&dir);
		}
	}
}

void cgroup_site_find(const char *self_cgroup, const char *mountinfo, const char *prefix, struct cgroup_site *ret)
{
	*ret = (struct cgroup_site){0};
	if (!find_v2(self_cgroup, mountinfo, prefix, ret))
		find_v1(self_cgroup, mountinfo, prefix, ret);
}

void cgroup_site_deinit(struct cgroup_site *site)
{
	if (!site)
		return;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		free(site->paths[i]);
	*site = (struct cgroup_site){0};
}

/* --- one lease's group --- */

static char *group_dir(const struct cgroup_site *site, int controller, const char *id)
{
	return xasprintf("%s/" GROUP_PREFIX "%s", site->paths[controller], id);
}

/* Sets the limits; which file of theirs says what is the kernel's documentation of cgroup-v1 and cgroup-v2. */
static int set_limit(const struct cgroup_site *site, int controller, const char *dir, const struct local_config *config)
{
	bool v2 = site->kind == CGROUP_V2;
	char value[64];
	int rc = 0;

	switch (controller) {
	case CGROUP_MEMORY:
		snprintf(value, sizeof value, "%lld", (long long)config->memory_mb * 1024 * 1024);
		rc = write_value(dir, v2 ? "memory.max" : "memory.limit_in_bytes", value);
		/* Swap would only make it slow; machines without swap accounting lack the file. */
		(void)write_value(dir, v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes", v2 ? "0" : value);
		break;
	case CGROUP_PIDS:
		snprintf(value, sizeof value, "%lld", (long long)config->max_processes);
		rc = write_value(dir, "pids.max", value);
		break;
	default:
		snprintf(value, sizeof value, v2 ? "%lld %d" : "%lld", (long long)(config->cpus * CPU_PERIOD_US + 0.5),
			 CPU_PERIOD_US);
		rc = write_value(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", value);
		break;
	}
	return rc;
}

static bool is_asked(const struct local_config *config, int controller)
{
	return controller == CGROUP_MEMORY ? config->memory_mb > 0
	       : controller == CGROUP_PIDS ? config->max_processes > 0
					   : config->cpus > 0;
}

static int create_one(const struct cgroup_site *site, int controller, const char *id, const struct local_config *config,
		      struct cgroup *ret, struct err *err)
{
	cleanup_free char *dir = group_dir(site, controller, id);
	cleanup_free char *run = xasprintf("%s/" RUN_NAME, dir);
	cleanup_free char *procs = xasprintf("%s/cgroup.procs", run);

	/* With v2 the first controller has made it for all. */
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "make control group %s", dir);
	ret->dirs[controller] = xstrdup(dir);
	if (set_limit(site, controller, dir, config) < 0)
		return err_set_errno(err, errno, "set the %s limit of control group %s", controller_names[controller], dir);
	if (mkdir(run, 0755) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "make control group %s", run);
	ret->join_fds[controller] = open(procs, O_WRONLY | O_CLOEXEC);
	if (ret->join_fds[controller] < 0)
		return err_set_errno(err, errno, "open %s", procs);
	return 0;
}

int cgroup_create(const struct cgroup_site *site, const char *id, const struct local_config *config, struct cgroup *ret,
		  struct err *err)
{
	*ret = CGROUP_INIT;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (site->paths[i] && is_asked(config, i) && create_one(site, i, id, config, ret, err) < 0) {
			cgroup_remove(ret);
			return -1;
		}
	}
	return 0;
}

int cgroup_join(const struct cgroup *cgroup)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (cgroup->join_fds[i] >= 0 && write(cgroup->join_fds[i], "0", 1) != 1)
			return -1;
	}
	return 0;
}

/* The kernel removes ended processes from their group a moment after their end was seen. */
static void remove_dir(const char *dir)
{
	for (int i = 0; i < REMOVE_TRIES && rmdir(dir) < 0 && errno == EBUSY; i++) {
		if (fiber_sleep(1, NULL) < 0)
			return;
	}
}

static void remove_group(const char *dir)
{
	cleanup_free char *run = xasprintf("%s/" RUN_NAME, dir);

	(void)write_value(dir, "cgroup.kill", "1"); /* v2 since Linux 5.14; they have been killed as a pid namespace, too */
	remove_dir(run);
	remove_dir(dir);
}

void cgroup_remove(struct cgroup *cgroup)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		cgroup->join_fds[i] = close_fd(cgroup->join_fds[i]);
		if (cgroup->dirs[i])
			remove_group(cgroup->dirs[i]);
		free(steal(&cgroup->dirs[i]));
	}
}

void cgroup_remove_left(const struct cgroup_site *site, const char *id)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		cleanup_free char *dir = site->paths[i] ? group_dir(site, i, id) : NULL;
		if (dir && access(dir, F_OK) == 0)
			remove_group(dir);
	}
}
