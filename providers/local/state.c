/*
 * Where leases lie: <state>/leases/<id>, and on their way out <state>/trash/<id>. A removal is a rename first, so that an id is gone in
 * one moment however much it holds, and so that what a killed worker left half removed is known as rubbish by its place.
 */
#include "local.h"

#include "base/mem.h"
#include "fs.h"
#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DIR_NAME "paperclip-sandbox-worker"

/*
 * The host gives its plugins no HOME. /var/tmp survives a reboot, as leases are meant to; anyone may write there, so the name says whose
 * it is and check_owner looks.
 */
char *local_state_dir_path(const char *configured)
{
	const char *state_home = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");

	if (configured)
		return xstrdup(configured);
	if (state_home && *state_home == '/')
		return xasprintf("%s/" DIR_NAME, state_home);
	if (home && *home == '/')
		return xasprintf("%s/.local/state/" DIR_NAME, home);
	const char *base = access("/var/tmp", W_OK | X_OK) == 0 ? "/var/tmp" : "/tmp";
	return xasprintf("%s/" DIR_NAME "-%u", base, (unsigned)geteuid());
}

/* Another user must not be able to plant or to change what we take for our own. */
static int check_owner(const char *path, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "state directory %s", path);
	if (st.st_uid != geteuid())
		return err_set(err, ERR_CONFLICT, "State directory %s belongs to another user. Set stateDir to one of your own.",
			       path);
	if (st.st_mode & 022)
		return err_set(err, ERR_CONFLICT, "State directory %s can be written by other users. Run `chmod 700 %s`.", path,
			       path);
	return 0;
}

static int make_part(const char *state_dir, const char *name, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", state_dir, name);

	return fs_make_dirs(path, 0700, err);
}

int local_state_dir(const char *configured, char **ret, struct err *err)
{
	cleanup_free char *path = local_state_dir_path(configured);

	if (fs_make_dirs(path, 0700, err) < 0 || check_owner(path, err) < 0 || make_part(path, "leases", err) < 0 ||
	    make_part(path, "trash", err) < 0)
		return -1;
	*ret = steal(&path);
	return 0;
}

/* --- sweeping --- */

static void list_ids(const char *dir_path, struct strv *ret)
{
	DIR *dir = opendir(dir_path);

	if (!dir)
		return;
	for (struct dirent *entry; (entry = readdir(dir));) {
		cleanup_free char *as_id = xasprintf(LOCAL_LEASE_SCHEME "%s", entry->d_name);
		if (lease_id_parse(as_id))
			strv_add(ret, entry->d_name);
	}
	closedir(dir);
}

static void report(const char *what, const char *id, const struct err *err)
{
	if (!err_is(err, ERR_CANCELLED) && !err_is(err, ERR_TIMEOUT))
		log_write(LOG_LEVEL_WARN, NULL, "local: %s %s cannot be removed: %s", what, id, err_text(err));
}

static void sweep_trash(const char *state_dir)
{
	cleanup_free char *trash = xasprintf("%s/trash", state_dir);
	cleanup_strv struct strv ids = {0};

	list_ids(trash, &ids);
	for (size_t i = 0; i < ids.count && !fiber_is_cancelled(); i++) {
		cleanup_free char *path = xasprintf("%s/%s", trash, ids.items[i]);
		cleanup_err struct err err = ERR_INIT;
		if (fs_remove_tree(path, &err) < 0)
			report("what is left of lease", ids.items[i], &err);
	}
}

/* Looked at first without being taken: another worker might want it in this moment. */
static bool looks_stale(const char *state_dir, const char *id)
{
	struct lease_record r = LEASE_RECORD_INIT;
	bool stale = lease_record_peek(state_dir, id, &r, NULL) == 0 && lease_record_is_stale(&r);

	lease_record_deinit(&r);
	return stale;
}

static void sweep_lease(const char *state_dir, const char *id, const struct cgroup_site *site)
{
	struct lease_record r = LEASE_RECORD_INIT;
	cleanup_err struct err err = ERR_INIT;

	if (!looks_stale(state_dir, id))
		return;
	/* What cannot be read is opened all the same, as far as the lock. */
	(void)lease_record_open(state_dir, id, &r, NULL);
	if (r.dir_fd >= 0 && lease_record_is_stale(&r)) {
		cgroup_remove_left(site, id);
		if (lease_record_remove(&r, &err) < 0)
			report("abandoned lease", id, &err);
	}
	lease_record_deinit(&r);
}

void local_state_sweep(const char *state_dir, const struct cgroup_site *site)
{
	cleanup_free char *leases = xasprintf("%s/leases", state_dir);
	cleanup_strv struct strv ids = {0};

	sweep_trash(state_dir);
	list_ids(leases, &ids);
	for (size_t i = 0; i < ids.count && !fiber_is_cancelled(); i++)
		sweep_lease(state_dir, ids.items[i], site);
}
