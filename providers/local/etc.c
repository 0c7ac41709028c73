/*
 * A sandbox's /etc.
 *
 * The host's /etc holds keys, passwords and what else the machine is used for, so it is not shown. What programs need of it is little:
 * names (hosts, resolver, users), the loader's cache, shell profiles, time zone, and the directories that packages in /usr refer to
 * (alternatives, certificates, interpreters' own settings).
 *
 * Files are handed to bubblewrap as memory (memfd), which copies them into its root file system: that is much faster than files on a
 * disk or a mount for each, and links to places that the sandbox does not have are followed on the way. So are small directories;
 * others are shown read-only as they are.
 */
#include "local.h"

#include "base/mem.h"
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1u << 20)
#define SMALL_DIR_ENTRIES 12
#define SMALL_FILE_BYTES (32 * 1024)

static const char *const copied_files[] = {
	"bash.bashrc", "bashrc",        "debian_version", "gai.conf",         "host.conf",           "inputrc",
	"ld.so.cache", "localtime",     "lsb-release",    "locale.conf",      "mime.types",          "mtab",
	"networks",    "nsswitch.conf", "os-release",     "pki/tls/cert.pem", "pki/tls/openssl.cnf", "profile",
	"protocols",   "resolv.conf",   "services",       "shells",           "ssl/openssl.cnf",     "timezone",
	NULL};

/* Never all of ssl or pki: private keys lie beside the certificates. */
static const char *const shown_dirs[] = {"alternatives",  "crypto-policies", "fonts",     "pki/ca-trust",
					 "pki/tls/certs", "profile.d",       "ssl/certs", NULL};
/* With a version in the name: java-17-openjdk, python3.11. */
static const char *const shown_prefixes[] = {"java", "python3", NULL};

void etc_view_deinit(struct etc_view *view)
{
	if (!view)
		return;
	strv_deinit(&view->arguments);
	for (size_t i = 0; i < view->fd_count; i++)
		close(view->fds[i]);
	free(view->fds);
	*view = (struct etc_view){0};
}

/* --- pieces of the view --- */

/* A memfd with the bytes, at its start; it belongs to the view. -1: no descriptor or no memory. */
static int view_add_memory(struct etc_view *view, const void *bytes, size_t n, struct err *err)
{
	int fd = memfd_create("etc", MFD_CLOEXEC);

	if (fd < 0 || (n > 0 && pwrite(fd, bytes, n, 0) != (ssize_t)n)) {
		err_set_errno(err, errno, "memory for the sandbox's /etc");
		close_fd(fd);
		return -1;
	}
	view->fds = xrealloc(view->fds, (view->fd_count + 1) * sizeof *view->fds);
	view->fds[view->fd_count++] = fd;
	return fd;
}

/* option: "--file" makes one, "--ro-bind-data" covers one that is there. */
static int view_add_file(struct etc_view *view, const char *option, const char *name, const struct buf *text, struct err *err)
{
	int fd = view_add_memory(view, text->data, text->len, err);

	if (fd < 0)
		return -1;
	if (strcmp(option, "--file") == 0)
		strv_add_all(&view->arguments, "--perms", "0644", NULL);
	strv_add(&view->arguments, option);
	strv_addf(&view->arguments, "%d", fd);
	strv_addf(&view->arguments, "/etc/%s", name);
	return 0;
}

static void view_add_link(struct etc_view *view, const char *name, const char *target)
{
	strv_add_all(&view->arguments, "--symlink", target, NULL);
	strv_addf(&view->arguments, "/etc/%s", name);
}

/* What the sandbox has as well: such a link is kept, since programs read the time zone's name out of it. */
static bool link_works_inside(const char *target)
{
	static const char *const places[] = {"/usr/", "../usr/", "/proc/", "../proc/", NULL};

	for (size_t i = 0; places[i]; i++) {
		if (str_starts_with(target, places[i]))
			return true;
	}
	return false;
}

/* A host's file that is missing, unreadable or no file is left out: each machine has others. */
static int view_add_copy(struct etc_view *view, const char *etc, const char *name, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", etc, name);
	cleanup_buf struct buf text = BUF_INIT(FILE_BYTES_MAX);
	cleanup_free char *real = NULL;
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	if (n >= 0) {
		target[n] = '\0';
		if (link_works_inside(target)) {
			view_add_link(view, name, target);
			return 0;
		}
		real = realpath(path, NULL);
		if (!real)
			return 0;
	}
	if (fs_read_file(AT_FDCWD, real ? real : path, &text, NULL) < 0)
		return 0;
	return view_add_file(view, "--file", name, &text, err);
}

/* --- directories --- */

/* The names in it if they are few, and small files all of them. */
static bool list_small_dir(const char *path, struct strv *ret)
{
	DIR *dir = opendir(path);
	bool small = dir != NULL;

	for (struct dirent *entry; small && (entry = readdir(dir));) {
		struct stat st;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		small = ret->count < SMALL_DIR_ENTRIES && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
			S_ISREG(st.st_mode) && st.st_size <= SMALL_FILE_BYTES;
		strv_add(ret, entry->d_name);
	}
	if (dir)
		closedir(dir);
	return small;
}

static int view_add_dir(struct etc_view *view, const char *etc, const char *name, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", etc, name);
	cleanup_strv struct strv entries = {0};
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	if (!list_small_dir(path, &entries)) {
		strv_add_all(&view->arguments, "--ro-bind", path, NULL);
		strv_addf(&view->arguments, "/etc/%s", name);
		return 0;
	}
	for (size_t i = 0; i < entries.count; i++) {
		cleanup_free char *entry = xasprintf("%s/%s", name, entries.items[i]);
		if (view_add_copy(view, etc, entry, err) < 0)
			return -1;
	}
	return 0;
}

static int view_add_versioned_dirs(struct etc_view *view, const char *etc, struct err *err)
{
	DIR *dir = opendir(etc);
	int rc = 0;

	for (struct dirent *entry; dir && rc == 0 && (entry = readdir(dir));) {
		for (size_t i = 0; shown_prefixes[i]; i++) {
			if (str_starts_with(entry->d_name, shown_prefixes[i]))
				rc = view_add_dir(view, etc, entry->d_name, err);
		}
	}
	if (dir)
		closedir(dir);
	return rc;
}

/* --- files that differ from the host's --- */

/* Reads a file of the root's /etc, or nothing if there is none. A rootfs is somebody else's work: its links may point at our files. */
static void read_etc_file(const char *root, const char *name, struct buf *ret)
{
	cleanup_free char *etc = xasprintf("%s/etc", root);
	cleanup_close int etc_fd = open(etc, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	buf_reset(ret);
	if (etc_fd >= 0 && fs_read_file(etc_fd, name, ret, NULL) < 0)
		buf_reset(ret);
}

/* Lines of passwd or group without those that are called like our user or have its number. */
static void append_foreign_entries(const char *text, struct buf *ret)
{
	for (const char *line = text; line && *line;) {
		size_t n = strcspn(line, "\n");
		cleanup_free char *copy = xstrndup(line, n);
		char *rest = copy;
		const char *name = strsep(&rest, ":");
		(void)strsep(&rest, ":");
		const char *number = strsep(&rest, ":");

		if (n > 0 && !str_eq(name, SANDBOX_USER) && !str_eq(number, "1000")) {
			buf_append(ret, line, n);
			buf_append_char(ret, '\n');
		}
		line += n + (line[n] == '\n');
	}
}

_Static_assert(SANDBOX_UID == 1000 && SANDBOX_GID == 1000, "append_foreign_entries knows the number");

static void make_passwd(const char *rootfs, struct buf *ret)
{
	cleanup_buf struct buf old = BUF_INIT(FILE_BYTES_MAX);

	if (rootfs) {
		read_etc_file(rootfs, "passwd", &old);
		append_foreign_entries(old.data, ret);
	} else {
		buf_append_str(ret, "root:x:0:0:root:/root:/usr/sbin/nologin\n"
				    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
	}
	buf_printf(ret, "%s:x:%d:%d::%s:/bin/sh\n", SANDBOX_USER, SANDBOX_UID, SANDBOX_GID, SANDBOX_HOME);
}

static void make_group(const char *rootfs, struct buf *ret)
{
	cleanup_buf struct buf old = BUF_INIT(FILE_BYTES_MAX);

	if (rootfs) {
		read_etc_file(rootfs, "group", &old);
		append_foreign_entries(old.data, ret);
	} else {
		buf_append_str(ret, "root:x:0:\nnogroup:x:65534:\n");
	}
	buf_printf(ret, "%s:x:%d:\n", SANDBOX_USER, SANDBOX_GID);
}

/* The host's names, and the sandbox's own. */
static void make_hosts(const char *system_root, const char *hostname, struct buf *ret)
{
	read_etc_file(system_root, "hosts", ret);
	if (ret->len == 0)
		buf_append_str(ret, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
	if (ret->data[ret->len - 1] != '\n')
		buf_append_char(ret, '\n');
	buf_printf(ret, "127.0.0.1 %s\n", hostname);
}

struct own_file {
	const char *name;
	struct buf text;
};

static void make_own_files(const char *system_root, const char *rootfs, const char *hostname, struct own_file files[3])
{
	static const char *const names[] = {"passwd", "group", "hosts"};

	for (int i = 0; i < 3; i++)
		files[i] = (struct own_file){.name = names[i], .text = BUF_INIT(2 * FILE_BYTES_MAX)};
	make_passwd(rootfs, &files[0].text);
	make_group(rootfs, &files[1].text);
	make_hosts(system_root, hostname, &files[2].text);
}

/* --- the two views --- */

static int view_host(struct etc_view *view, const char *system_root, struct own_file own[3], struct err *err)
{
	cleanup_free char *etc = xasprintf("%s/etc", system_root);

	for (int i = 0; i < 3; i++) {
		if (view_add_file(view, "--file", own[i].name, &own[i].text, err) < 0)
			return -1;
	}
	for (size_t i = 0; copied_files[i]; i++) {
		if (view_add_copy(view, etc, copied_files[i], err) < 0)
			return -1;
	}
	for (size_t i = 0; shown_dirs[i]; i++) {
		if (view_add_dir(view, etc, shown_dirs[i], err) < 0)
			return -1;
	}
	return view_add_versioned_dirs(view, etc, err);
}

/* Only where the rootfs has such a file: a place for one can't be made in what is read-only. */
static bool rootfs_has(const char *rootfs, const char *name)
{
	cleanup_free char *etc = xasprintf("%s/etc", rootfs);
	cleanup_free char *path = xasprintf("%s/%s", etc, name);
	struct stat st;

	return lstat(etc, &st) == 0 && S_ISDIR(st.st_mode) && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int view_rootfs(struct etc_view *view, const char *system_root, const char *rootfs, struct own_file own[3],
		       struct err *err)
{
	cleanup_free char *resolver = xasprintf("%s/etc/resolv.conf", system_root);
	cleanup_buf struct buf text = BUF_INIT(FILE_BYTES_MAX);
	cleanup_free char *real = realpath(resolver, NULL);

	for (int i = 0; i < 3; i++) {
		if (rootfs_has(rootfs, own[i].name) && view_add_file(view, "--ro-bind-data", own[i].name, &own[i].text, err) < 0)
			return -1;
	}
	if (!rootfs_has(rootfs, "resolv.conf") || !real || fs_read_file(AT_FDCWD, real, &text, NULL) < 0)
		return 0;
	return view_add_file(view, "--ro-bind-data", "resolv.conf", &text, err);
}

int local_etc_view(const char *system_root, const char *rootfs, const char *hostname, struct etc_view *ret, struct err *err)
{
	struct own_file own[3];

	*ret = (struct etc_view){0};
	make_own_files(system_root, rootfs, hostname, own);
	int rc = rootfs ? view_rootfs(ret, system_root, rootfs, own, err) : view_host(ret, system_root, own, err);
	for (int i = 0; i < 3; i++)
		buf_deinit(&own[i].text);
	if (rc < 0)
		etc_view_deinit(ret);
	return rc;
}
