/*
 * wire: ssh, Key and host keys without files. A text that ssh is to read lives in memory, and ssh finds it under this process's /proc: so
 * nothing is on disk, and nothing is left by a worker that was killed. Where that does not work it is a file that only we can read, in
 * the directory of the sockets.
 */
#include "ssh.h"

#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* A socket's path may have 90 bytes: ssh adds 17 while it binds it. */
#define DIR_BYTES_MAX 70
#define DIR_PREFIX "psw-ssh-"
#define LOCK_NAME "lock"

/* --- the directory --- */

void ssh_dir_init(struct ssh_dir *dir)
{
	*dir = (struct ssh_dir){.lock_fd = -1};
}

/* Blanks, quotes and % mean something in ssh's options. */
static bool place_is_fine(const char *path)
{
	return str_nonempty(path) && *path == '/' && strlen(path) + strlen("/" DIR_PREFIX "XXXXXX") <= DIR_BYTES_MAX &&
	       !path[strspn(path, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

/* Left by a worker that was killed: its lock is free. */
static void sweep(const char *place)
{
	DIR *listing = opendir(place);
	struct dirent *entry;

	while (listing && (entry = readdir(listing))) {
		if (!str_starts_with(entry->d_name, DIR_PREFIX))
			continue;
		cleanup_free char *path = xasprintf("%s/%s", place, entry->d_name);
		cleanup_close int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		cleanup_close int lock_fd = dir_fd < 0 ? -1 : openat(dir_fd, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		struct stat st;

		if (lock_fd >= 0 && fstat(dir_fd, &st) == 0 && st.st_uid == geteuid() && flock(lock_fd, LOCK_EX | LOCK_NB) == 0)
			(void)fs_remove_tree_now(path, NULL);
	}
	if (listing)
		closedir(listing);
}

static int make_in(struct ssh_dir *dir, const char *place)
{
	cleanup_free char *path = xasprintf("%s/" DIR_PREFIX "XXXXXX", place);

	if (!mkdtemp(path))
		return -1;
	/* The lock is taken before the file has its name: nobody sees it free. */
	cleanup_close int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int fd = dir_fd < 0 ? -1 : openat(dir_fd, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || renameat(dir_fd, "new", dir_fd, LOCK_NAME) < 0) {
		(void)fs_remove_tree_now(path, NULL);
		return -1;
	}
	dir->lock_fd = steal_fd(&fd);
	dir->path = steal(&path);
	return 0;
}

int ssh_dir_open(struct ssh_dir *dir, struct err *err)
{
	const char *const places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp", "/dev/shm"};

	for (size_t i = 0; !dir->path && i < sizeof places / sizeof places[0]; i++) {
		if (!place_is_fine(places[i]))
			continue;
		sweep(places[i]);
		(void)make_in(dir, places[i]);
	}
	if (dir->path)
		return 0;
	return err_set_errno(err, errno, "Neither in XDG_RUNTIME_DIR nor in /tmp or /dev/shm can a directory for SSH's sockets be made");
}

void ssh_dir_deinit(struct ssh_dir *dir)
{
	if (dir->path)
		(void)fs_remove_tree_now(dir->path, NULL);
	free(dir->path);
	close_fd(dir->lock_fd);
	ssh_dir_init(dir);
}

char *ssh_dir_name(struct ssh_dir *dir)
{
	return xasprintf("%s/%u", dir->path, ++dir->last_name);
}

/* --- texts --- */

static int write_all(int fd, const char *text)
{
	for (size_t len = strlen(text); len > 0;) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return -1;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* -1: ssh could not read it there. */
static int make_in_memory(const char *text, mode_t mode, struct ssh_file *ret)
{
	cleanup_close int fd = memfd_create("psw-ssh", MFD_CLOEXEC);
	cleanup_free char *path = xasprintf("/proc/%ld/fd/%d", (long)getpid(), fd);

	if (fd < 0 || fchmod(fd, mode) < 0 || write_all(fd, text) < 0)
		return -1;
	if ((geteuid() != 0 && prctl(PR_GET_DUMPABLE) != 1) || access(path, R_OK) < 0)
		return -1;
	*ret = (struct ssh_file){.fd = steal_fd(&fd), .path = steal(&path)};
	return 0;
}

int ssh_file_create(struct ssh_dir *dir, const char *text, mode_t mode, struct ssh_file *ret, struct err *err)
{
	if (make_in_memory(text, mode, ret) == 0)
		return 0;
	cleanup_free char *path = ssh_dir_name(dir);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0 || write_all(fd, text) < 0) {
		int number = errno;
		unlink(path);
		return err_set_errno(err, number, "write a file for SSH");
	}
	*ret = (struct ssh_file){.fd = -1, .path = steal(&path)};
	return 0;
}

void ssh_file_close(struct ssh_file *file)
{
	if (file->path && file->fd < 0)
		unlink(file->path);
	if (file->path)
		close_fd(file->fd);
	free(file->path);
	*file = (struct ssh_file){.fd = -1};
}
