/*
 * Removing a tree that others have filled.
 *
 * A walk with a stack of open directories: entries are unlinked relative to the directory that was really opened, so that no name is
 * ever resolved twice and no link followed. The stack is short. A directory below its last level is renamed into the top directory
 * ("lifted") and met there again, so that neither descriptors nor memory grow with the depth.
 *
 * The walk counts its steps. The first ones are done at once, since most trees are small; the rest is work for the thread pool.
 */
#include "fs.h"

#include "base/mem.h"
#include "fiber.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16
/* How often an emptied directory that turns out not to be empty is read again: readdir may miss entries that move. */
#define PASSES_MAX 3
#define STEPS_INLINE 256

struct level {
	DIR *dir;
	char name[NAME_MAX + 1]; /* in the level above; unused at level 0 */
	unsigned passes;
	bool failed; /* something in it could not be removed */
};

struct removal {
	char *path; /* owned */
	struct level levels[DEPTH_MAX];
	unsigned depth; /* levels in use */
	unsigned lifted;
	int first_errno;
	char first_name[NAME_MAX + 1];
	/* in the thread pool */
	uv_work_t work;
	struct event finished;
	atomic_bool abandoned; /* nobody waits any more */
};

static atomic_bool background_ends;

static void removal_failed(struct removal *r, const char *name)
{
	if (r->first_errno != 0)
		return;
	r->first_errno = errno;
	snprintf(r->first_name, sizeof r->first_name, "%s", name);
}

static int open_dir_fd(int parent_fd, const char *name)
{
	return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens a directory that we may read nothing of, by giving it the bits; the handle keeps the name from being swapped meanwhile. */
static int open_locked_dir(int parent_fd, const char *name)
{
	cleanup_close int handle = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char self[64];

	if (handle < 0)
		return -1;
	snprintf(self, sizeof self, "/proc/self/fd/%d", handle);
	if (chmod(self, 0700) < 0)
		return -1;
	return openat(handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The open directory as a new level, with the permissions that emptying it needs. */
static int removal_push(struct removal *r, int parent_fd, const char *name)
{
	struct level *level = &r->levels[r->depth];
	struct stat st;
	int fd = open_dir_fd(parent_fd, name);

	if (fd < 0 && errno == EACCES)
		fd = open_locked_dir(parent_fd, name);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700); /* if it fails, so will the unlinking, with a better error */
	*level = (struct level){.dir = fdopendir(fd)};
	if (!level->dir) {
		close(fd);
		return -1;
	}
	snprintf(level->name, sizeof level->name, "%s", name);
	r->depth++;
	return 0;
}

/* Moves the directory up to level 0 under a new name. */
static int removal_lift(struct removal *r, int fd, const char *name)
{
	int top_fd = dirfd(r->levels[0].dir);
	char lifted[64];

	/* Moving a directory rewrites its "..": it has to be writable. */
	cleanup_close int handle = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (handle < 0)
		return -1;
	char self[64];
	snprintf(self, sizeof self, "/proc/self/fd/%d", handle);
	(void)chmod(self, 0700);
	do {
		snprintf(lifted, sizeof lifted, ".removing-%u", r->lifted++);
	} while (faccessat(top_fd, lifted, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	if (renameat(fd, name, top_fd, lifted) < 0)
		return -1;
	r->levels[0].passes = 0; /* the reading position may be past it */
	return 0;
}

/* One entry of the innermost level. */
static void removal_entry(struct removal *r, const struct dirent *entry)
{
	struct level *level = &r->levels[r->depth - 1];
	int fd = dirfd(level->dir);

	if (entry->d_type != DT_DIR) {
		if (unlinkat(fd, entry->d_name, 0) == 0 || errno == ENOENT)
			return;
		if (errno != EISDIR) {
			removal_failed(r, entry->d_name);
			level->failed = true;
			return;
		}
	}
	if (unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0)
		return;
	if ((r->depth < DEPTH_MAX ? removal_push(r, fd, entry->d_name) : removal_lift(r, fd, entry->d_name)) < 0) {
		removal_failed(r, entry->d_name);
		level->failed = true;
	}
}

/* The innermost level has been read to its end. */
static void removal_pop(struct removal *r)
{
	struct level *level = &r->levels[r->depth - 1];
	int rc;

	if (r->depth > 1)
		rc = unlinkat(dirfd(r->levels[r->depth - 2].dir), level->name, AT_REMOVEDIR);
	else
		rc = rmdir(r->path);
	if (rc < 0 && (errno == ENOTEMPTY || errno == EEXIST) && !level->failed && level->passes++ < PASSES_MAX) {
		rewinddir(level->dir);
		return;
	}
	if (rc < 0 && errno != ENOENT) {
		removal_failed(r, r->depth > 1 ? level->name : r->path);
		if (r->depth > 1)
			r->levels[r->depth - 2].failed = true;
	}
	closedir(level->dir);
	level->dir = NULL;
	r->depth--;
}

/* Removes until all is done (true) or the steps are used up. */
static bool removal_run(struct removal *r, uint64_t steps)
{
	while (r->depth > 0) {
		if (steps-- == 0 || (atomic_load(&r->abandoned) && atomic_load(&background_ends)))
			return false;
		errno = 0;
		struct dirent *entry = readdir(r->levels[r->depth - 1].dir);
		if (!entry) {
			if (errno != 0) {
				removal_failed(r, r->levels[r->depth - 1].name);
				r->levels[r->depth - 1].failed = true;
			}
			removal_pop(r);
		} else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			removal_entry(r, entry);
		}
	}
	return true;
}

static void removal_destroy(struct removal *r)
{
	if (!r)
		return;
	while (r->depth > 0)
		closedir(r->levels[--r->depth].dir);
	free(r->path);
	free(r);
}

static void removal_destroy_p(struct removal **r)
{
	removal_destroy(*r);
}

/* NULL with *ret_done: nothing is left to do, or (with err) nothing can be done. */
static struct removal *removal_create(const char *path, int *ret_rc, struct err *err)
{
	*ret_rc = 0;
	if (unlink(path) == 0 || errno == ENOENT)
		return NULL;
	if (errno != EISDIR && errno != EPERM) {
		*ret_rc = err_set_errno(err, errno, "remove %s", path);
		return NULL;
	}
	struct removal *r = xcalloc(1, sizeof *r);
	r->path = xstrdup(path);
	if (removal_push(r, AT_FDCWD, path) == 0)
		return r;
	*ret_rc = errno == ENOENT ? 0 : err_set_errno(err, errno, "remove %s", path);
	removal_destroy(r);
	return NULL;
}

static int removal_result(const struct removal *r, struct err *err)
{
	if (r->first_errno == 0)
		return 0;
	return err_set_errno(err, r->first_errno, "remove %s (at %s)", r->path, r->first_name);
}

int fs_remove_tree_now(const char *path, struct err *err)
{
	int rc;
	cleanup(removal_destroy_p) struct removal *r = removal_create(path, &rc, err);

	if (!r)
		return rc;
	removal_run(r, UINT64_MAX);
	return removal_result(r, err);
}

static void removal_on_work(uv_work_t *work)
{
	removal_run(container_of(work, struct removal, work), UINT64_MAX);
}

static void removal_on_finished(uv_work_t *work, int status)
{
	struct removal *r = container_of(work, struct removal, work);

	if (r->abandoned)
		removal_destroy(r);
	else
		event_set(&r->finished);
}

int fs_remove_tree(const char *path, struct err *err)
{
	int rc;
	cleanup(removal_destroy_p) struct removal *r = removal_create(path, &rc, err);

	if (!r)
		return rc;
	if (!removal_run(r, STEPS_INLINE)) {
		rc = uv_queue_work(scheduler_loop(), &r->work, removal_on_work, removal_on_finished);
		if (rc < 0)
			return err_set(err, ERR_SYSTEM, "remove %s: %s", path, uv_strerror(rc));
		if (event_wait(&r->finished, err) < 0) {
			atomic_store(&steal(&r)->abandoned, true); /* the thread still uses it */
			return -1;
		}
	}
	return removal_result(r, err);
}

void fs_end_background(void)
{
	atomic_store(&background_ends, true);
}
