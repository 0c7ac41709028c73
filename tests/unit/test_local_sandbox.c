#include "providers/local/local.h"

#include "base/mem.h"
#include "fs.h"
#include "tap.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A machine in a directory: what the arguments are built from. */
struct machine {
	char *root;  /* owned */
	char *lease; /* owned */
};

static char *join(const char *a, const char *b)
{
	return xasprintf("%s%s", a, b);
}

static void make_dir(const char *root, const char *path)
{
	cleanup_free char *full = join(root, path);

	CHECK(fs_make_dirs(full, 0755, NULL) == 0);
}

static void make_link(const char *root, const char *path, const char *target)
{
	cleanup_free char *full = join(root, path);

	CHECK(symlink(target, full) == 0);
}

static void make_file(const char *root, const char *path, const char *text)
{
	cleanup_free char *full = join(root, path);

	CHECK(fs_write_file_atomic(AT_FDCWD, full, text, strlen(text), 0644, NULL) == 0);
}

static void machine_init(struct machine *m)
{
	const char *tmp = getenv("TMPDIR");

	m->root = xasprintf("%s/test sandbox.XXXXXX", str_nonempty(tmp) ? tmp : "/tmp");
	CHECK(mkdtemp(m->root) != NULL);
	m->lease = join(m->root, "/lease");
	make_dir(m->root, "/lease/etc");
	make_dir(m->root, "/etc/ssl/certs");
	make_dir(m->root, "/etc/ssl/private");
	make_dir(m->root, "/usr/bin");
	make_dir(m->root, "/lib");
	make_link(m->root, "/bin", "usr/bin");
}

static void machine_deinit(struct machine *m)
{
	CHECK(fs_remove_tree_now(m->root, NULL) == 0);
	free(m->root);
	free(m->lease);
}

#define cleanup_machine cleanup(machine_deinit)

/* bwrap's arguments for a config, one a line, the machine's root written as @. Owned; or the error's text. */
static char *arguments(const struct machine *m, const char *json, bool as_root, int info_fd)
{
	cleanup_json json_t *object = json_loads(json, 0, NULL);
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv errors = {0};
	cleanup_strv struct strv list = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT;

	local_config_read(object, &config, &errors, NULL);
	CHECK_INT(errors.count, 0);
	struct sandbox_spec spec = {.config = &config, .bwrap = "bwrap", .lease_dir = m->lease, .hostname = "box", .system_root = m->root,
				    .as_root = as_root, .info_fd = info_fd};
	if (sandbox_arguments(&spec, &list, &err) < 0)
		return xstrdup(err_text(&err));
	for (size_t i = 0; i < list.count; i++) {
		bool inside = str_starts_with(list.items[i], m->root);
		buf_printf(&text, "%s%s\n", inside ? "@" : "", inside ? list.items[i] + strlen(m->root) : list.items[i]);
	}
	return buf_steal(&text);
}

static size_t position(const char *text, const char *part)
{
	const char *at = strstr(text, part);

	if (!at)
		tap_fail(__FILE__, __LINE__, "no %s in %s", part, text);
	return at ? (size_t)(at - text) : 0;
}

TEST(the_view_of_the_host_is_complete_and_in_order)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *got = arguments(&m, "{}", false, -1);
	CHECK_STR(got, "bwrap\n--unshare-user\n--unshare-pid\n--unshare-ipc\n--unshare-uts\n--unshare-cgroup-try\n"
		       "--uid\n1000\n--gid\n1000\n--hostname\nbox\n--die-with-parent\n--as-pid-1\n--cap-drop\nALL\n"
		       "--symlink\nusr/bin\n/bin\n--ro-bind\n@/lib\n/lib\n--ro-bind\n@/usr\n/usr\n"
		       "--bind\n@/lease/etc\n/etc\n--ro-bind\n@/etc/ssl/certs\n/etc/ssl/certs\n"
		       "--dir\n/run\n--dir\n/var\n--symlink\n../run\n/var/run\n--symlink\n../tmp\n/var/tmp\n"
		       "--proc\n/proc\n--ro-bind\n/proc/sys\n/proc/sys\n--dev\n/dev\n"
		       "--bind\n@/lease/home\n/home/agent\n--bind\n@/lease/tmp\n/tmp\n--bind\n@/lease/workspace\n/workspace\n"
		       "--remount-ro\n/etc\n--remount-ro\n/\n--chdir\n/\n--\n");
}

TEST(the_network_is_unshared_only_if_it_is_none)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *none = arguments(&m, "{\"network\":\"none\"}", false, -1);
	cleanup_free char *host = arguments(&m, "{\"network\":\"host\"}", false, -1);
	CHECK(strstr(none, "--unshare-net\n"));
	CHECK(!strstr(host, "--unshare-net"));
}

TEST(the_init_pid_is_asked_for_when_it_is_needed)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *got = arguments(&m, "{}", false, 17);
	CHECK(strstr(got, "--info-fd\n17\n"));
}

TEST(a_root_worker_covers_what_root_may_write_in_proc)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *got = arguments(&m, "{}", true, -1);
	CHECK(position(got, "--ro-bind\n/proc/fs\n/proc/fs\n") > position(got, "--proc\n/proc\n"));
}

TEST(shared_paths_come_last_and_are_read_only_unless_writable)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/data x");
	cleanup_free char *json = xasprintf("{\"binds\":[\"%s/data x:/tmp/d:rw\",\"%s/data x:/e\"]}", m.root, m.root);
	cleanup_free char *got = arguments(&m, json, false, -1);
	CHECK(position(got, "--bind\n@/data x\n/tmp/d\n--ro-bind\n@/data x\n/e\n") > position(got, "/tmp\n"));
	CHECK(position(got, "/e\n") < position(got, "--remount-ro\n/\n"));
}

TEST(a_shared_path_that_is_missing_is_named)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *missing = arguments(&m, "{\"binds\":[\"/nonexistent/x:/y\"]}", false, -1);
	CHECK_STR(missing, "binds[0].source /nonexistent/x cannot be used: No such file or directory.");
}

TEST(a_working_directory_in_a_shared_path_or_the_home_gets_no_mount_of_its_own)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	cleanup_free char *json = xasprintf("{\"binds\":[\"%s/usr:/p:rw\"],\"workdir\":\"/p/q\"}", m.root);
	cleanup_free char *shared = arguments(&m, json, false, -1);
	cleanup_free char *home = arguments(&m, "{\"workdir\":\"/home/agent\"}", false, -1);
	cleanup_free char *in_home = arguments(&m, "{\"workdir\":\"/home/agent/x\"}", false, -1);
	CHECK(!strstr(shared, "/workspace"));
	CHECK(!strstr(home, "/workspace"));
	CHECK(position(in_home, "@/lease/workspace\n/home/agent/x\n") > position(in_home, "@/lease/home\n"));
}

TEST(a_rootfs_is_shown_entry_by_entry_with_our_own_directories_left_out)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/r/usr/bin");
	make_dir(m.root, "/r/etc");
	make_dir(m.root, "/r/home/somebody");
	make_dir(m.root, "/r/proc");
	make_dir(m.root, "/r/tmp");
	make_dir(m.root, "/r/opt");
	make_dir(m.root, "/r/workspace");
	make_dir(m.root, "/r/var/tmp");
	make_link(m.root, "/r/bin", "usr/bin");
	make_file(m.root, "/r/.dockerenv", "");
	make_file(m.root, "/r/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	make_link(m.root, "/r/etc/resolv.conf", "/run/resolv.conf");
	make_file(m.root, "/lease/etc/passwd", "");
	make_file(m.root, "/lease/etc/resolv.conf", "");
	cleanup_free char *json = xasprintf("{\"rootfs\":\"%s/r\"}", m.root);
	cleanup_free char *got = arguments(&m, json, false, -1);
	size_t start = position(got, "--symlink");
	CHECK_STR(got + start, "--symlink\nusr/bin\n/bin\n--ro-bind\n@/r/etc\n/etc\n--ro-bind\n@/r/opt\n/opt\n--ro-bind\n@/r/usr\n/usr\n"
			       "--ro-bind\n@/r/var\n/var\n--ro-bind\n@/lease/etc/passwd\n/etc/passwd\n--dir\n/run\n"
			       "--bind\n@/lease/tmp\n/var/tmp\n--proc\n/proc\n--ro-bind\n/proc/sys\n/proc/sys\n--dev\n/dev\n"
			       "--bind\n@/lease/home\n/home/agent\n--bind\n@/lease/tmp\n/tmp\n--bind\n@/lease/workspace\n/workspace\n"
			       "--remount-ro\n/\n--chdir\n/\n--\n");
}

TEST(a_rootfs_that_is_none_is_refused)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_file(m.root, "/file", "");
	make_dir(m.root, "/empty");
	cleanup_free char *file_json = xasprintf("{\"rootfs\":\"%s/file\"}", m.root);
	cleanup_free char *empty_json = xasprintf("{\"rootfs\":\"%s/empty\"}", m.root);
	cleanup_free char *missing = arguments(&m, "{\"rootfs\":\"/nonexistent/r\"}", false, -1);
	cleanup_free char *file = arguments(&m, file_json, false, -1);
	cleanup_free char *empty = arguments(&m, empty_json, false, -1);
	CHECK_STR(missing, "rootfs /nonexistent/r cannot be used: No such file or directory.");
	CHECK(str_ends_with(file, "/file is not a directory."));
	CHECK(str_ends_with(empty, "/empty does not hold a Linux system: it has neither usr nor bin."));
}

/* --- /etc --- */

static char *read_lease_file(const struct machine *m, const char *name)
{
	cleanup_free char *path = xasprintf("%s/etc/%s", m->lease, name);
	struct buf text = BUF_INIT(1 << 20);

	CHECK(fs_read_file(AT_FDCWD, path, &text, NULL) == 0);
	return buf_steal(&text);
}

static void fill_etc(const struct machine *m, const char *rootfs)
{
	cleanup_close int fd = open(m->lease, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_err struct err err = ERR_INIT;

	CHECK(local_etc_fill(fd, m->root, rootfs, "box", &err) == 0);
	CHECK_STR(err_text(&err), "no error");
}

static bool lease_has(const struct machine *m, const char *name)
{
	cleanup_free char *path = xasprintf("%s/etc/%s", m->lease, name);

	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

TEST(etc_holds_what_programs_need_and_no_secrets)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_file(m.root, "/etc/shadow", "root:hash");
	make_file(m.root, "/etc/passwd", "me:x:1001:1001:My Name:/home/me:/bin/zsh\n");
	make_file(m.root, "/etc/environment", "TOKEN=1\n");
	make_file(m.root, "/etc/nsswitch.conf", "hosts: files dns\n");
	make_file(m.root, "/etc/hosts", "127.0.0.1 localhost\n10.0.0.1 db");
	make_file(m.root, "/etc/ssl/private/key.pem", "secret");
	make_file(m.root, "/etc/ssl/openssl.cnf", "x=y\n");
	fill_etc(&m, NULL);
	cleanup_free char *hosts = read_lease_file(&m, "hosts");
	cleanup_free char *passwd = read_lease_file(&m, "passwd");
	cleanup_free char *nsswitch = read_lease_file(&m, "nsswitch.conf");
	cleanup_free char *openssl = read_lease_file(&m, "ssl/openssl.cnf");
	CHECK_STR(hosts, "127.0.0.1 localhost\n10.0.0.1 db\n127.0.0.1 box\n");
	CHECK(strstr(passwd, "agent:x:1000:1000::/home/agent:") && !strstr(passwd, "My Name"));
	CHECK_STR(nsswitch, "hosts: files dns\n");
	CHECK_STR(openssl, "x=y\n");
	CHECK(!lease_has(&m, "shadow") && !lease_has(&m, "environment") && !lease_has(&m, "ssl/private"));
}

TEST(links_into_the_system_stay_links_and_others_are_followed)
{
	char target[64] = "";
	cleanup_machine struct machine m;

	machine_init(&m);
	make_link(m.root, "/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
	make_dir(m.root, "/run");
	make_file(m.root, "/run/stub", "nameserver 127.0.0.53\n");
	make_link(m.root, "/etc/resolv.conf", "../run/stub");
	make_link(m.root, "/etc/hosts", "/nonexistent");
	fill_etc(&m, NULL);
	fill_etc(&m, NULL); /* again, as when a sandbox is started anew */
	cleanup_free char *resolv = read_lease_file(&m, "resolv.conf");
	cleanup_free char *localtime = xasprintf("%s/etc/localtime", m.lease);
	CHECK_STR(resolv, "nameserver 127.0.0.53\n");
	CHECK(readlink(localtime, target, sizeof target - 1) > 0);
	CHECK_STR(target, "/usr/share/zoneinfo/Etc/UTC");
	cleanup_free char *hosts = read_lease_file(&m, "hosts");
	CHECK(strstr(hosts, "127.0.0.1 localhost\n") && strstr(hosts, "127.0.0.1 box\n"));
}

TEST(a_rootfs_keeps_its_users_but_for_ours)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/r/etc");
	make_file(m.root, "/r/etc/passwd", "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nagent:x:5:5::/:/bin/no\nlast:x:7:7::/:/x");
	make_file(m.root, "/r/etc/group", "root:x:0:\nnode:x:1000:\n");
	cleanup_free char *rootfs = join(m.root, "/r");
	fill_etc(&m, rootfs);
	cleanup_free char *passwd = read_lease_file(&m, "passwd");
	cleanup_free char *group = read_lease_file(&m, "group");
	CHECK_STR(passwd, "root:x:0:0::/root:/bin/sh\nlast:x:7:7::/:/x\nagent:x:1000:1000::/home/agent:/bin/sh\n");
	CHECK_STR(group, "root:x:0:\nagent:x:1000:\n");
}

TEST(links_of_a_rootfs_do_not_lead_to_files_of_the_host)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_file(m.root, "/secret", "s3cret:x:7:7::/:/x\n");
	make_dir(m.root, "/r/etc");
	cleanup_free char *secret = join(m.root, "/secret");
	make_link(m.root, "/r/etc/passwd", secret);
	cleanup_free char *rootfs = join(m.root, "/r");
	fill_etc(&m, rootfs);
	cleanup_free char *passwd = read_lease_file(&m, "passwd");
	CHECK(!strstr(passwd, "s3cret"));
}

TEST(private_keys_beside_certificates_are_not_shared)
{
	cleanup_machine struct machine m;
	cleanup_strv struct strv dirs = {0};

	machine_init(&m);
	make_dir(m.root, "/etc/pki/tls/private");
	make_dir(m.root, "/etc/pki/tls/certs");
	make_dir(m.root, "/etc/python3.11");
	make_dir(m.root, "/etc/ssh");
	make_file(m.root, "/etc/fonts", "not a directory");
	local_etc_shared_dirs(m.root, &dirs);
	CHECK_INT(dirs.count, 3);
	CHECK_STR(dirs.items[0], "pki/tls/certs");
	CHECK_STR(dirs.items[1], "ssl/certs");
	CHECK_STR(dirs.items[2], "python3.11");
}

/* --- what to do where there are no namespaces --- */

static void check_hint(const char *file, const char *value, bool as_root, const char *part)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/sys/user");
	make_dir(m.root, "/sys/kernel");
	cleanup_free char *path = xasprintf("/sys/%s", file);
	make_file(m.root, path, value);
	cleanup_free char *proc_sys = join(m.root, "/sys");
	cleanup_free char *hint = sandbox_explain_refusal(proc_sys, as_root);
	if (part)
		CHECK(hint && strstr(hint, part));
	else
		CHECK(!hint || strstr(hint, "This is a container"));
}

TEST(each_switch_that_refuses_namespaces_is_named)
{
	check_hint("user/max_user_namespaces", "0\n", true, "sysctl -w user.max_user_namespaces=15000");
	check_hint("user/max_user_namespaces", "15000\n", false, NULL);
	check_hint("kernel/unprivileged_userns_clone", "0\n", false, "sysctl -w kernel.unprivileged_userns_clone=1");
	check_hint("kernel/unprivileged_userns_clone", "0\n", true, NULL);
	check_hint("kernel/apparmor_restrict_unprivileged_userns", "1\n", false, "AppArmor");
	check_hint("kernel/apparmor_restrict_unprivileged_userns", "0\n", false, NULL);
}

TEST_MAIN()
