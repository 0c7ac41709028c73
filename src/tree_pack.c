/* A walk with a stack of open directories; each entry's header, then its bytes as they are read from the file. */
#include "tree_pack.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "protocol/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 512

struct level {
	DIR *dir;
	size_t name_len; /* of the path of what is in it: with the slash at its end */
	dev_t dev;
	ino_t ino;
};

struct tree_pack {
	struct strv exclude;
	bool follow;
	struct level levels[DEPTH_MAX];
	size_t depth;
	struct buf name;   /* of the present entry, below the directory */
	struct buf staged; /* headers and padding that are still to go out */
	int fd;            /* of the file that is being read; -1: none */
	uint64_t left;     /* of it, as its header says */
	size_t padding;
	uint64_t files;
	uint64_t bytes;
};

static int push(struct tree_pack *pack, int fd, struct err *err)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		close_fd(fd);
		return err_set_errno(err, errno, "open directory %s", pack->name.data ? pack->name.data : "");
	}
	if (pack->depth == DEPTH_MAX) {
		close(fd);
		return err_set(err, ERR_INVALID, "%s is more than %d directories deep", pack->name.data, DEPTH_MAX);
	}
	DIR *dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return err_set_errno(err, errno, "open directory %s", pack->name.data ? pack->name.data : "");
	}
	pack->levels[pack->depth++] = (struct level){dir, pack->name.len, st.st_dev, st.st_ino};
	return 0;
}

int tree_pack_open(const char *path, char *const *exclude, bool follow, struct tree_pack **ret, struct err *err)
{
	struct tree_pack *pack = xcalloc(1, sizeof *pack);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	pack->follow = follow;
	pack->fd = -1;
	pack->name = BUF_INIT(BUF_UNBOUNDED);
	pack->staged = BUF_INIT(BUF_UNBOUNDED);
	for (; exclude && *exclude; exclude++)
		strv_add(&pack->exclude, *exclude);
	if (fd < 0) {
		err_set_errno(err, errno, "open directory %s", path);
		tree_pack_close(pack);
		return -1;
	}
	if (push(pack, fd, err) < 0) {
		tree_pack_close(pack);
		return -1;
	}
	*ret = pack;
	return 0;
}

void tree_pack_close(struct tree_pack *pack)
{
	if (!pack)
		return;
	while (pack->depth > 0)
		closedir(pack->levels[--pack->depth].dir);
	strv_deinit(&pack->exclude);
	buf_deinit(&pack->name);
	buf_deinit(&pack->staged);
	close_fd(pack->fd);
	free(pack);
}

static bool is_excluded(const struct tree_pack *pack)
{
	for (char *const *pattern = strv_list(&pack->exclude); *pattern; pattern++) {
		for (const char *part = pack->name.data; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
			if (fnmatch(*pattern, part, 0) == 0)
				return true;
		}
	}
	return false;
}

/* It would be walked for ever. */
static bool is_own_parent(const struct tree_pack *pack, const struct stat *st)
{
	for (size_t i = 0; i < pack->depth; i++) {
		if (pack->levels[i].dev == st->st_dev && pack->levels[i].ino == st->st_ino)
			return true;
	}
	return false;
}

static void stage(struct tree_pack *pack, enum tar_type type, const struct stat *st, uint64_t size, const char *link)
{
	struct tar_entry entry = {
		.type = type,
		.name = pack->name.data,
		.link = link,
		.mode = st->st_mode & 0777,
		.size = size,
		.mtime = st->st_mtime,
	};

	tar_write_entry(&pack->staged, &entry);
	pack->files += type != TAR_DIRECTORY;
}

static int add_link(struct tree_pack *pack, int parent, const char *name, const struct stat *st, struct err *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(parent, name, target, sizeof target - 1);

	if (n < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, errno, "read link %s", pack->name.data);
	target[n] = '\0';
	stage(pack, TAR_SYMLINK, st, 0, target);
	return 0;
}

static int add_directory(struct tree_pack *pack, int parent, const char *name, const struct stat *st, struct err *err)
{
	if (is_own_parent(pack, st))
		return 0;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (pack->follow ? 0 : O_NOFOLLOW));
	if (fd < 0 && errno == ENOENT)
		return 0;
	buf_append_char(&pack->name, '/');
	if (push(pack, fd, err) < 0)
		return -1;
	stage(pack, TAR_DIRECTORY, st, 0, NULL);
	return 0;
}

static int add_file(struct tree_pack *pack, int parent, const char *name, struct err *err)
{
	struct stat st;
	/* O_NONBLOCK: it may have become a FIFO. */
	cleanup_close int fd = openat(parent, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | (pack->follow ? 0 : O_NOFOLLOW));

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set_errno(err, errno, "open %s", pack->name.data);
	if (!S_ISREG(st.st_mode))
		return 0;
	stage(pack, TAR_FILE, &st, (uint64_t)st.st_size, NULL);
	pack->fd = steal_fd(&fd);
	pack->left = (uint64_t)st.st_size;
	pack->padding = tar_padding(pack->left);
	return 0;
}

static int add(struct tree_pack *pack, int parent, const char *name, struct err *err)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set_errno(err, errno, "look at %s", pack->name.data);
	if (S_ISLNK(st.st_mode)) {
		struct stat target;
		if (!pack->follow || fstatat(parent, name, &target, 0) < 0)
			return add_link(pack, parent, name, &st, err);
		st = target;
	}
	if (S_ISDIR(st.st_mode))
		return add_directory(pack, parent, name, &st, err);
	return S_ISREG(st.st_mode) ? add_file(pack, parent, name, err) : 0;
}

/* One step of the walk; it may add nothing. */
static int walk(struct tree_pack *pack, struct err *err)
{
	struct level *top = &pack->levels[pack->depth - 1];

	errno = 0;
	struct dirent *entry = readdir(top->dir);
	buf_truncate(&pack->name, top->name_len);
	if (!entry && errno != 0)
		return err_set_errno(err, errno, "read directory %s", pack->name.data ? pack->name.data : "");
	if (!entry) {
		closedir(top->dir);
		if (--pack->depth == 0)
			tar_write_end(&pack->staged);
		return 0;
	}
	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return 0;
	buf_append_str(&pack->name, entry->d_name);
	return is_excluded(pack) ? 0 : add(pack, dirfd(top->dir), entry->d_name, err);
}

static int read_file(struct tree_pack *pack, char *room, size_t n, size_t *ret_n, struct err *err)
{
	static const char zeros[TAR_BLOCK];
	size_t want = pack->left < n ? (size_t)pack->left : n;
	ssize_t got = 0;

	if (want > 0) {
		do
			got = read(pack->fd, room, want);
		while (got < 0 && errno == EINTR);
		if (got < 0)
			return err_set_errno(err, errno, "read %s", pack->name.data);
		if (got == 0) {
			memset(room, 0, want);
			got = (ssize_t)want;
		}
	}
	pack->left -= (uint64_t)got;
	*ret_n = (size_t)got;
	if (pack->left == 0) {
		pack->fd = close_fd(pack->fd);
		buf_append(&pack->staged, zeros, pack->padding);
	}
	return 0;
}

int tree_pack_read(void *arg, void *room, size_t n, size_t *ret_n, struct err *err)
{
	struct tree_pack *pack = arg;

	*ret_n = 0;
	while (*ret_n == 0) {
		if (pack->staged.len > 0) {
			*ret_n = pack->staged.len < n ? pack->staged.len : n;
			memcpy(room, pack->staged.data, *ret_n);
			buf_consume(&pack->staged, *ret_n);
		} else if (pack->fd >= 0) {
			if (read_file(pack, room, n, ret_n, err) < 0)
				return -1;
		} else if (pack->depth == 0) {
			return 0;
		} else if (walk(pack, err) < 0) {
			return -1;
		}
	}
	pack->bytes += *ret_n;
	return 0;
}

uint64_t tree_pack_files(const struct tree_pack *pack)
{
	return pack->files;
}

uint64_t tree_pack_bytes(const struct tree_pack *pack)
{
	return pack->bytes;
}
