/*
 * The directory of a lease on the disk.
 *
 * It is removed when the lease ends, and all that are left when the worker stops. A worker that is killed can do neither. So each
 * directory holds a marker file, locked (flock) for as long as its worker lives: the kernel drops the lock with the process. A later
 * worker takes away the directories whose marker has our text and no lock. Those without a marker are not ours to touch.
 *
 * The marker appears under its name when it is already locked, and is removed last, so that at no moment a directory can be
 * mistaken, or a half-removed one be forgotten.
 */
#include "fake.h"

#include "base/buf.h"
#include "base/mem.h"
#include "fs.h"
#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define ROOT_PREFIX "paperclip-fake-sandbox-"
#define ROOT_SUFFIX_LEN 6
#define MARKER ".paperclip-worker"
#define MARKER_UNLOCKED MARKER ".new"
#define MARKER_TEXT "paperclip-sandbox-worker fake-plugin\n"

char *fake_temp_dir(void)
{
	static const char *const names[] = {"TMPDIR", "TMP", "TEMP"};
	const char *dir = NULL;

	for (size_t i = 0; i < sizeof names / sizeof names[0] && !str_nonempty(dir); i++)
		dir = getenv(names[i]);
	if (!str_nonempty(dir))
		dir = "/tmp";
	size_t len = strlen(dir);
	return xstrndup(dir, len > 1 && dir[len - 1] == '/' ? len - 1 : len);
}

/* The locked marker's descriptor, or -1 with errno set. */
static int make_marker(int root_fd)
{
	int fd = openat(root_fd, MARKER_UNLOCKED, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -1;
	if (write(fd, MARKER_TEXT, strlen(MARKER_TEXT)) == (ssize_t)strlen(MARKER_TEXT) && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
	    renameat(root_fd, MARKER_UNLOCKED, root_fd, MARKER) == 0)
		return fd;
	int number = errno;
	close(fd);
	unlinkat(root_fd, MARKER_UNLOCKED, 0);
	errno = number;
	return -1;
}

int fake_root_make(struct fake_root *ret, struct err *err)
{
	cleanup_free char *temp = fake_temp_dir();
	cleanup_free char *path = xasprintf("%s/" ROOT_PREFIX "XXXXXX", temp);

	if (!mkdtemp(path))
		return fake_fs_error(err, errno, "mkdtemp", path);
	cleanup_close int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int marker_fd = root_fd >= 0 && mkdirat(root_fd, "workspace", 0777) == 0 ? make_marker(root_fd) : -1;
	if (marker_fd < 0) {
		fake_fs_error(err, errno, "mkdir", path);
		if (root_fd >= 0)
			unlinkat(root_fd, "workspace", AT_REMOVEDIR);
		rmdir(path);
		return -1;
	}
	*ret = (struct fake_root){.path = steal(&path), .marker_fd = marker_fd};
	return 0;
}

int fake_root_remove(const struct fake_root *root, struct err *err)
{
	cleanup_free char *workspace = xasprintf("%s/workspace", root->path);

	/* The part that may be big goes first, then the rest with the marker. */
	if (fs_remove_tree(workspace, err) < 0)
		return -1;
	return fs_remove_tree(root->path, err);
}

void fake_root_deinit(struct fake_root *root)
{
	if (!root)
		return;
	free(root->path);
	root->path = NULL;
	root->marker_fd = close_fd(root->marker_fd);
}

static bool is_root_name(const char *name)
{
	return str_starts_with(name, ROOT_PREFIX) && strlen(name) == strlen(ROOT_PREFIX) + ROOT_SUFFIX_LEN;
}

static bool is_marker_text(int fd)
{
	char text[sizeof MARKER_TEXT];
	ssize_t n = pread(fd, text, sizeof text, 0);

	return n == (ssize_t)strlen(MARKER_TEXT) && memcmp(text, MARKER_TEXT, (size_t)n) == 0;
}

/* The marker, locked by us now, if the directory was made by a worker of this user that is dead; else -1. */
static int lock_dead_root(const char *path)
{
	cleanup_close int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int marker_fd = -1;
	struct stat root_st, marker_st;

	if (root_fd < 0 || fstat(root_fd, &root_st) < 0 || root_st.st_uid != geteuid())
		return -1;
	marker_fd = openat(root_fd, MARKER, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (marker_fd < 0 || fstat(marker_fd, &marker_st) < 0 || !S_ISREG(marker_st.st_mode) || marker_st.st_uid != geteuid())
		return -1;
	if (!is_marker_text(marker_fd) || flock(marker_fd, LOCK_EX | LOCK_NB) < 0)
		return -1;
	return steal_fd(&marker_fd);
}

static void find_dead_roots(const char *temp, struct strv *ret)
{
	DIR *dir = opendir(temp);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (is_root_name(entry->d_name))
			strv_addf(ret, "%s/%s", temp, entry->d_name);
	}
	closedir(dir);
}

static void sweep(void *arg)
{
	struct fake_state *state = arg;
	cleanup_free char *temp = fake_temp_dir();
	cleanup_strv struct strv paths = {0};

	find_dead_roots(temp, &paths);
	for (size_t i = 0; i < paths.count && !fiber_is_cancelled(); i++) {
		struct fake_root root = {.path = xstrdup(paths.items[i]), .marker_fd = lock_dead_root(paths.items[i])};
		cleanup_err struct err err = ERR_INIT;

		if (root.marker_fd >= 0 && fake_root_remove(&root, &err) < 0 && !err_is(&err, ERR_CANCELLED))
			log_write(LOG_LEVEL_WARN, NULL,
				  "fake-plugin: %s, left by a worker that was killed, cannot be removed: %s", root.path,
				  err_text(&err));
		fake_root_deinit(&root);
	}
	state->sweeper = NULL;
	event_set(&state->swept);
}

void fake_sweep_start(struct fake_state *state)
{
	if (state->sweep_started)
		return;
	state->sweep_started = true;
	state->sweeper = fiber_start(sweep, state);
}

void fake_sweep_stop(struct fake_state *state)
{
	if (!state->sweeper)
		return;
	fiber_cancel(state->sweeper);
	(void)event_wait(&state->swept, NULL);
}
