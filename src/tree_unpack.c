/*
 * Twice over the archive: once to look at every name and link, once to extract. Each path is walked from the directory's descriptor,
 * part by part, without following links, so that what is checked is what is used.
 */
#include "tree_pack.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "fiber.h"
#include "fs.h"
#include "protocol/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES 65536

/* --- names --- */

/* The path without ".", "" and ".." parts, joined to base; NULL: it is absolute or leads out. Owned; "" is the directory itself. */
static char *resolve(const char *base, size_t base_len, const char *path)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	if (path[0] == '/')
		return NULL;
	buf_append(&out, base, base_len);
	while (*path) {
		size_t len = strcspn(path, "/");

		if (len == 2 && memcmp(path, "..", 2) == 0) {
			if (out.len == 0) {
				buf_deinit(&out);
				return NULL;
			}
			const char *slash = memrchr(out.data, '/', out.len);
			buf_truncate(&out, slash ? (size_t)(slash - out.data) : 0);
		} else if (len > 0 && !(len == 1 && *path == '.')) {
			if (out.len > 0)
				buf_append_char(&out, '/');
			buf_append(&out, path, len);
		}
		path += len;
		path += strspn(path, "/");
	}
	return buf_steal(&out);
}

static size_t parent_length(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? (size_t)(slash - name) : 0;
}

/* --- the first look --- */

struct check {
	const struct tree_unpack *unpack;
	struct strv links; /* names of symbolic links */
	struct strv turns; /* "<name>\n<target>\n<path>": targets that turn back after a name, with what they turn back from */
};

static int refuse_member(const struct check *check, const struct tar_entry *entry, struct err *err)
{
	return err_set(err, ERR_PROTOCOL, "%s%s", check->unpack->member_refused, entry->name);
}

static int refuse_link(const struct check *check, const char *name, const char *target, struct err *err)
{
	return err_set(err, ERR_PROTOCOL, "%s%s -> %s", check->unpack->link_refused, name, target);
}

/*
 * A target such as a/../b leads where it seems to only if a is no link. True if one of the path's turns follows a name; then *ret is the
 * longest path that it turns back from. Owned.
 */
static bool turns_back(const char *base, size_t base_len, const char *target, char **ret)
{
	bool named = false;
	const char *turn = NULL;

	for (const char *part = target; *part;) {
		size_t len = strcspn(part, "/");
		if (len == 2 && memcmp(part, "..", 2) == 0) {
			if (named)
				turn = part;
		} else if (len > 0 && !(len == 1 && *part == '.')) {
			named = true;
		}
		part += len;
		part += strspn(part, "/");
	}
	if (!turn)
		return false;
	cleanup_free char *head = xstrndup(target, (size_t)(turn - target));
	*ret = resolve(base, base_len, head);
	return true;
}

static int check_entry(void *arg, const struct tar_entry *entry, struct err *err)
{
	struct check *check = arg;
	cleanup_free char *name = resolve("", 0, entry->name);
	cleanup_free char *turn = NULL;

	if (!name || (!*name && entry->type != TAR_DIRECTORY))
		return refuse_member(check, entry, err);
	if (entry->type != TAR_SYMLINK && entry->type != TAR_HARDLINK)
		return 0;
	/* Hard links are named from the directory, symbolic ones from where they are. */
	size_t base_len = entry->type == TAR_SYMLINK ? parent_length(name) : 0;
	cleanup_free char *target = resolve(name, base_len, entry->link);
	if (!target || !*entry->link)
		return refuse_link(check, entry->name, entry->link, err);
	if (entry->type == TAR_HARDLINK)
		return 0;
	strv_add(&check->links, name);
	if (turns_back(name, base_len, entry->link, &turn))
		strv_addf(&check->turns, "%s\n%s\n%s", name, entry->link, turn ? turn : "");
	return 0;
}

static int no_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	return 0;
}

static int no_end(void *arg, struct err *err)
{
	return 0;
}

static bool leads_through(const char *path, const char *link)
{
	size_t len = strlen(link);

	return strncmp(path, link, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Names with line ends are taken for what they are not, and refused too often rather than too rarely. */
static int check_turns(struct check *check, struct err *err)
{
	for (size_t i = 0; i < check->turns.count; i++) {
		char *name = check->turns.items[i];
		char *target = name + strcspn(name, "\n");
		*target++ = '\0';
		char *path = strrchr(target, '\n');
		*path++ = '\0';
		for (size_t k = 0; k < check->links.count; k++) {
			if (leads_through(path, check->links.items[k]))
				return refuse_link(check, name, target, err);
		}
	}
	return 0;
}

/* --- extracting --- */

struct mode {
	char *name; /* owned */
	mode_t mode;
};

struct extraction {
	struct tree_unpack *unpack;
	int root;
	int file; /* that is being written; -1: none */
	struct tar_entry entry;
	/* Directories get their modes last: one that may not be written to could not be filled. */
	struct mode *modes;
	size_t mode_count;
	size_t mode_room;
};

/* A real directory of that name, made if need be in the place of anything else. Returns its descriptor. */
static int enter(int parent, const char *name, struct err *err)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if ((errno == ENOTDIR || errno == ELOOP) && unlinkat(parent, name, 0) < 0)
		return err_set_errno(err, errno, "remove %s", name);
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return err_set_errno(err, errno, "make directory %s", name);
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : err_set_errno(err, errno, "open directory %s", name);
}

/* The directory that holds the path's last part, which *ret_last points to. Returns a descriptor to be closed. */
static int enter_parents(int root, char *path, const char **ret_last, struct err *err)
{
	int fd = dup(root);

	*ret_last = path;
	for (char *slash; fd >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
		*slash = '\0';
		int next = enter(fd, path, err);
		close(fd);
		fd = next;
		*ret_last = slash + 1;
	}
	return fd;
}

static int extract_directory(struct extraction *x, int parent, const char *name, const char *path, struct err *err)
{
	int fd = enter(parent, name, err);

	if (fd < 0)
		return -1;
	if (x->mode_count == x->mode_room) {
		x->mode_room = x->mode_room * 2 + 16;
		x->modes = xrealloc(x->modes, x->mode_room * sizeof *x->modes);
	}
	x->modes[x->mode_count++] = (struct mode){xstrdup(path), x->entry.mode & 0777};
	/* Until then it can be filled. */
	fchmod(fd, (x->entry.mode & 0777) | 0700);
	close(fd);
	return 0;
}

static int make_way(int parent, const char *name, struct err *err)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	return err_set_errno(err, errno, "replace %s", name);
}

static int extract_hardlink(struct extraction *x, int parent, const char *name, struct err *err)
{
	cleanup_free char *target = resolve("", 0, x->entry.link);
	const char *last;
	cleanup_close int from = enter_parents(x->root, target, &last, err);

	if (from < 0 || make_way(parent, name, err) < 0)
		return -1;
	return linkat(from, last, parent, name, 0) == 0 ? 0 : err_set_errno(err, errno, "link %s", x->entry.name);
}

static int extract(struct extraction *x, int parent, const char *name, const char *path, struct err *err)
{
	switch (x->entry.type) {
	case TAR_DIRECTORY:
		return extract_directory(x, parent, name, path, err);
	case TAR_OTHER:
		return 0;
	case TAR_HARDLINK:
		x->unpack->files++;
		return extract_hardlink(x, parent, name, err);
	case TAR_SYMLINK:
		x->unpack->files++;
		if (make_way(parent, name, err) < 0)
			return -1;
		return symlinkat(x->entry.link, parent, name) == 0 ? 0 : err_set_errno(err, errno, "link %s", x->entry.name);
	case TAR_FILE:
		x->unpack->files++;
		if (make_way(parent, name, err) < 0)
			return -1;
		x->file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, x->entry.mode & 0777);
		return x->file >= 0 ? 0 : err_set_errno(err, errno, "create %s", x->entry.name);
	}
	return 0;
}

static int extract_entry(void *arg, const struct tar_entry *entry, struct err *err)
{
	struct extraction *x = arg;
	cleanup_free char *path = resolve("", 0, entry->name);
	cleanup_free char *whole = xstrdup(path);
	const char *name;

	/* Data that follows is written by these. */
	x->entry = *entry;
	if (!*path)
		return 0;
	cleanup_close int parent = enter_parents(x->root, path, &name, err);
	return parent < 0 ? -1 : extract(x, parent, name, whole, err);
}

static int extract_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct extraction *x = arg;

	while (n > 0 && x->file >= 0) {
		ssize_t k = write(x->file, bytes, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set_errno(err, errno, "write a file");
		bytes += k;
		n -= (size_t)k;
	}
	return 0;
}

static int extract_end(void *arg, struct err *err)
{
	struct extraction *x = arg;
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = x->entry.mtime}};
	int fd = x->file;

	x->file = -1;
	if (fd < 0)
		return 0;
	/* The umask took bits away. */
	fchmod(fd, x->entry.mode & 0777);
	futimens(fd, times);
	return close(fd) == 0 ? 0 : err_set_errno(err, errno, "write a file");
}

static int set_modes(struct extraction *x, struct err *err)
{
	for (size_t i = x->mode_count; i-- > 0;) {
		const char *name;
		cleanup_close int parent = enter_parents(x->root, x->modes[i].name, &name, err);

		if (parent < 0)
			return -1;
		cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			fchmod(fd, x->modes[i].mode);
	}
	return 0;
}

/* --- both --- */

static int feed_file(struct tar *tar, int fd, struct err *err)
{
	cleanup_free char *chunk = xmalloc(CHUNK_BYTES);
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(fd, chunk, CHUNK_BYTES, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set_errno(err, errno, "read the archive");
		if (n == 0)
			return tar_finish(tar, err);
		at += n;
		if (tar_feed(tar, chunk, (size_t)n, err) < 0 || fiber_yield(err) < 0)
			return -1;
	}
}

static int play(int fd, const struct tar_events *events, struct err *err)
{
	struct tar tar;

	tar_init(&tar, events);
	int rc = feed_file(&tar, fd, err);
	tar_deinit(&tar);
	return rc;
}

static int check_all(const struct tree_unpack *unpack, int fd, struct err *err)
{
	struct check check = {.unpack = unpack};
	struct tar_events events = {check_entry, no_data, no_end, &check};

	int rc = play(fd, &events, err);
	if (rc == 0)
		rc = check_turns(&check, err);
	strv_deinit(&check.links);
	strv_deinit(&check.turns);
	return rc;
}

int tree_unpack(struct tree_unpack *unpack, int fd, const char *path, struct err *err)
{
	struct extraction x = {.unpack = unpack, .root = -1, .file = -1};
	struct tar_events events = {extract_entry, extract_data, extract_end, &x};

	if (check_all(unpack, fd, err) < 0 || fs_make_dirs(path, 0755, err) < 0)
		return -1;
	x.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x.root < 0)
		return err_set_errno(err, errno, "open directory %s", path);
	int rc = play(fd, &events, err);
	if (rc == 0)
		rc = set_modes(&x, err);
	for (size_t i = 0; i < x.mode_count; i++)
		free(x.modes[i].name);
	free(x.modes);
	close_fd(x.file);
	close(x.root);
	return rc;
}
