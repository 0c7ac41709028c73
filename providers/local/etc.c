/*
 * A sandbox's /etc.
 *
 * The host's /etc holds keys, passwords and what else the machine is used for, so it is not shown. What programs need of it is little:
 * names (hosts, resolver, users), the loader's cache, shell profiles, time zone, and the directories that packages in /usr refer to
 * (alternatives, certificates, interpreters' own settings). Files are copied, for they are small and may be links to places that the
 * sandbox does not have; directories are shown read-only as they are.
 */
#include "local.h"

#include "base/mem.h"
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1u << 20)

static const char *const copied_files[] = {
	"bash.bashrc", "bashrc",     "debian_version",   "gai.conf", "host.conf",     "inputrc",   "ld.so.cache",
	"localtime",   "lsb-release", "locale.conf",      "mime.types", "mtab",          "networks",  "nsswitch.conf",
	"os-release",  "profile",    "protocols",        "resolv.conf", "services",     "shells",    "ssl/openssl.cnf",
	"timezone",    "pki/tls/cert.pem", "pki/tls/openssl.cnf", NULL};

/* Never all of ssl or pki: private keys lie beside the certificates. */
static const char *const shared_dirs[] = {"alternatives", "crypto-policies", "fonts", "perl", "pki/ca-trust", "pki/tls/certs",
					  "profile.d",	  "ssl/certs",	     "terminfo", NULL};
/* With a version in the name: java-17-openjdk, python3.11. */
static const char *const shared_prefixes[] = {"java", "python3", NULL};

const char *const local_etc_rootfs_files[] = {"group", "hosts", "passwd", "resolv.conf", NULL};

static void add_if_dir(const char *etc, const char *name, struct strv *ret)
{
	cleanup_free char *path = xasprintf("%s/%s", etc, name);
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		strv_add(ret, name);
}

void local_etc_shared_dirs(const char *system_root, struct strv *ret)
{
	cleanup_free char *etc = xasprintf("%s/etc", system_root);
	DIR *dir = opendir(etc);

	for (size_t i = 0; shared_dirs[i]; i++)
		add_if_dir(etc, shared_dirs[i], ret);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		for (size_t i = 0; shared_prefixes[i]; i++) {
			if (str_starts_with(entry->d_name, shared_prefixes[i]))
				add_if_dir(etc, entry->d_name, ret);
		}
	}
	if (dir)
		closedir(dir);
}

/* --- copying --- */

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

static void make_parent(int etc_fd, const char *name)
{
	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		cleanup_free char *parent = xstrndup(name, (size_t)(slash - name));
		(void)mkdirat(etc_fd, parent, 0755); /* if it fails, so does what it is for */
	}
}

static int put_file(int etc_fd, const char *name, const void *bytes, size_t n, struct err *err)
{
	return fs_write_file_atomic(etc_fd, name, bytes, n, 0644, err);
}

/* A host's file that is missing, unreadable or no file is left out: each machine has others. */
static int copy_file(int etc_fd, const char *system_root, const char *name, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/etc/%s", system_root, name);
	cleanup_buf struct buf text = BUF_INIT(FILE_BYTES_MAX);
	char target[PATH_MAX];
	char real[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	if (n >= 0) {
		target[n] = '\0';
		if (link_works_inside(target)) {
			make_parent(etc_fd, name);
			(void)unlinkat(etc_fd, name, 0); /* of the lease's earlier days */
			return symlinkat(target, etc_fd, name) < 0 ? err_set_errno(err, errno, "link /etc/%s", name) : 0;
		}
	}
	if (!realpath(path, real) || fs_read_file(AT_FDCWD, real, &text, NULL) < 0)
		return 0;
	make_parent(etc_fd, name);
	return put_file(etc_fd, name, text.data ? text.data : "", text.len, err);
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

static int put_users(int etc_fd, const char *rootfs, struct err *err)
{
	cleanup_buf struct buf passwd = BUF_INIT(2 * FILE_BYTES_MAX);
	cleanup_buf struct buf group = BUF_INIT(2 * FILE_BYTES_MAX);
	cleanup_buf struct buf old = BUF_INIT(FILE_BYTES_MAX);

	if (rootfs) {
		read_etc_file(rootfs, "passwd", &old);
		append_foreign_entries(old.data, &passwd);
		read_etc_file(rootfs, "group", &old);
		append_foreign_entries(old.data, &group);
	} else {
		buf_append_str(&passwd, "root:x:0:0:root:/root:/usr/sbin/nologin\n"
					"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
		buf_append_str(&group, "root:x:0:\nnogroup:x:65534:\n");
	}
	buf_printf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", SANDBOX_USER, SANDBOX_UID, SANDBOX_GID, SANDBOX_HOME);
	buf_printf(&group, "%s:x:%d:\n", SANDBOX_USER, SANDBOX_GID);
	if (put_file(etc_fd, "passwd", passwd.data, passwd.len, err) < 0)
		return -1;
	return put_file(etc_fd, "group", group.data, group.len, err);
}

/* The host's names, and the sandbox's own. */
static int put_hosts(int etc_fd, const char *system_root, const char *hostname, struct err *err)
{
	cleanup_buf struct buf hosts = BUF_INIT(2 * FILE_BYTES_MAX);

	read_etc_file(system_root, "hosts", &hosts);
	if (hosts.len == 0)
		buf_append_str(&hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
	if (hosts.data[hosts.len - 1] != '\n')
		buf_append_char(&hosts, '\n');
	buf_printf(&hosts, "127.0.0.1 %s\n", hostname);
	return put_file(etc_fd, "hosts", hosts.data, hosts.len, err);
}

int local_etc_fill(int lease_dir_fd, const char *system_root, const char *rootfs, const char *hostname, struct err *err)
{
	cleanup_close int etc_fd = openat(lease_dir_fd, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (etc_fd < 0)
		return err_set_errno(err, errno, "open the lease's etc");
	if (put_users(etc_fd, rootfs, err) < 0 || put_hosts(etc_fd, system_root, hostname, err) < 0)
		return -1;
	if (rootfs)
		return copy_file(etc_fd, system_root, "resolv.conf", err);
	for (size_t i = 0; copied_files[i]; i++) {
		if (copy_file(etc_fd, system_root, copied_files[i], err) < 0)
			return -1;
	}
	return 0;
}
