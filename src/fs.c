#include "fs.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK_BYTES 65536

static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -1;
	if (stat(path, &st) < 0)
		return -1;
	if (S_ISDIR(st.st_mode))
		return 0;
	errno = ENOTDIR;
	return -1;
}

int fs_make_dirs(const char *path, mode_t mode, struct err *err)
{
	cleanup_free char *copy = xstrdup(path);
	char *end = copy;

	/* The whole path first: mostly its parents are there. */
	if (make_dir(copy, mode) == 0)
		return 0;
	if (errno != ENOENT)
		return err_set_errno(err, errno, "make directory %s", path);
	while (*end == '/')
		end++;
	for (;;) {
		end += strcspn(end, "/");
		char kept = *end;
		*end = '\0';
		if (make_dir(copy, mode) < 0)
			return err_set_errno(err, errno, "make directory %s", copy);
		*end = kept;
		end += strspn(end, "/");
		if (!*end)
			return 0;
	}
}

static int write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, bytes, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		bytes += k;
		n -= (size_t)k;
	}
	return 0;
}

/* The temporary name lies beside the final one: rename works within one file system only. */
static char *temporary_name(const char *name)
{
	const char *slash = strrchr(name, '/');
	int dir_len = slash ? (int)(slash + 1 - name) : 0;
	uint64_t number = 0;

	if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number)
		number = (uint64_t)getpid();
	return xasprintf("%.*s.%s.%016llx", dir_len, name, name + dir_len, (unsigned long long)number);
}

int fs_write_file_atomic(int dir_fd, const char *name, const void *bytes, size_t n, mode_t mode, struct err *err)
{
	cleanup_free char *temporary = temporary_name(name);
	int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0)
		return err_set_errno(err, errno, "create %s", temporary);
	int rc = write_all(fd, bytes, n);
	int number = errno;
	if (close(fd) < 0 && rc == 0) {
		rc = -1;
		number = errno;
	}
	if (rc == 0 && renameat(dir_fd, temporary, dir_fd, name) < 0) {
		rc = -1;
		number = errno;
	}
	if (rc < 0) {
		unlinkat(dir_fd, temporary, 0);
		return err_set_errno(err, number, "write %s", name);
	}
	return 0;
}

int fs_read_file(int dir_fd, const char *name, struct buf *ret, struct err *err)
{
	/* O_NONBLOCK: a FIFO in the file's place must not hang us. */
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID, "%s is not a regular file", name);
	for (;;) {
		size_t left = ret->max - ret->len;
		size_t want = left < READ_CHUNK_BYTES ? left : READ_CHUNK_BYTES;
		char one_more;
		char *room = want > 0 ? buf_reserve(ret, want) : &one_more;
		ssize_t k = read(fd, room, want > 0 ? want : 1);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set_errno(err, errno, "read %s", name);
		if (k == 0) {
			if (ret->data)
				buf_added(ret, 0); /* for its NUL */
			return 0;
		}
		if (want == 0)
			return err_set(err, ERR_INVALID, "%s is too big", name);
		buf_added(ret, (size_t)k);
	}
}
