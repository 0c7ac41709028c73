/*
 * Mount points that lie where commands may write: a working directory in the home, a shared path in /tmp.
 *
 * bubblewrap would make them itself, but it follows links, and commands of the lease's earlier life may have left some: a "work" that
 * points to /oldroot/home/somebody would have directories made on the host. So before each start every such place is made, or looked at,
 * by us, one component after the other, and a link is refused. Nothing of the lease runs then.
 */
#include "local.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* A directory of the host that commands may change, and where they see it. */
struct writable {
	const char *host;   /* borrowed */
	const char *target; /* borrowed */
};

static int refuse(const char *target, const char *component, int number, struct err *err)
{
	if (number == ELOOP || number == ENOTDIR)
		return err_set(
			err, ERR_CONFLICT,
			"%s cannot be shown in the sandbox: \"%s\" in it is a link or a file that a command has left there.",
			target, component);
	return err_set_errno(err, number, "make %s in the sandbox", target);
}

/* The last component: a directory for a directory, a file for anything else. */
static int make_last(int fd, const char *name, bool is_dir, const char *target, struct err *err)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode) != is_dir ? refuse(target, name, ENOTDIR, err) : 0;
	if (errno != ENOENT)
		return refuse(target, name, errno, err);
	if (is_dir)
		return mkdirat(fd, name, 0755) < 0 ? refuse(target, name, errno, err) : 0;
	int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	close_fd(file);
	return file < 0 ? refuse(target, name, errno, err) : 0;
}

static int make_below(const struct writable *place, const char *target, bool is_dir, struct err *err)
{
	cleanup_free char *path = xstrdup(target + strlen(place->target) + 1);
	cleanup_close int fd = open(place->host, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *rest = path;
	char *name = strsep(&rest, "/");

	if (fd < 0)
		return err_set_errno(err, errno, "open %s", place->host);
	for (; rest; name = strsep(&rest, "/")) {
		if (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)
			return refuse(target, name, errno, err);
		int next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return refuse(target, name, errno, err);
		close(fd);
		fd = next;
	}
	return make_last(fd, name, is_dir, target, err);
}

/* Of the places so far, the innermost that holds the target counts; what is not in any is made in the sandbox's own root. */
static int make_target(const struct writable *places, size_t count, const char *target, bool is_dir, struct err *err)
{
	const struct writable *found = NULL;

	for (size_t i = 0; i < count; i++) {
		if (local_path_is_in(target, places[i].target) && (!found || local_path_is_in(places[i].target, found->target)))
			found = &places[i];
	}
	if (!found || !found->host || strcmp(target, found->target) == 0)
		return 0;
	return make_below(found, target, is_dir, err);
}

static int make_bind_target(struct writable *places, size_t count, const struct local_bind *bind, struct err *err)
{
	struct stat st;

	if (stat(bind->source, &st) < 0)
		return 0; /* sandbox_arguments tells */
	if (make_target(places, count, bind->target, S_ISDIR(st.st_mode), err) < 0)
		return -1;
	/* In what is read-only, commands cannot have left anything; and we would not write to it. */
	places[count] = (struct writable){.host = bind->writable && S_ISDIR(st.st_mode) ? bind->source : NULL,
					  .target = bind->target};
	return 0;
}

int local_mount_points_make(const struct local_config *config, const char *lease_dir, struct err *err)
{
	cleanup_free char *home = xasprintf("%s/home", lease_dir);
	cleanup_free char *tmp = xasprintf("%s/tmp", lease_dir);
	cleanup_free char *workspace = xasprintf("%s/workspace", lease_dir);
	cleanup_free struct writable *places = xcalloc(config->bind_count + 3, sizeof *places);
	size_t count = 0;

	places[count++] = (struct writable){.host = home, .target = SANDBOX_HOME};
	places[count++] = (struct writable){.host = tmp, .target = "/tmp"};
	if (sandbox_workdir_is_private(config)) {
		if (make_target(places, count, config->workdir, true, err) < 0)
			return -1;
		places[count++] = (struct writable){.host = workspace, .target = config->workdir};
	}
	for (size_t i = 0; i < config->bind_count; i++) {
		if (make_bind_target(places, count++, &config->binds[i], err) < 0)
			return -1;
	}
	return 0;
}
