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
	make_dir(m->root, "/lease");
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

static void append_listed(struct buf *text, const struct machine *m, const struct strv *list)
{
	for (size_t i = 0; i < list->count; i++) {
		bool inside = str_starts_with(list->items[i], m->root);
		buf_printf(text, "%s%s\n", inside ? "@" : "", inside ? list->items[i] + strlen(m->root) : list->items[i]);
	}
}

/* bwrap's arguments for a config, one a line, the machine's root written as @. Owned; or the error's text. */
static char *arguments(const struct machine *m, const char *json, bool as_root, int info_fd)
{
	cleanup_json json_t *object = json_loads(json, 0, NULL);
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv errors = {0};
	cleanup_strv struct strv list = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT;
	cleanup(etc_view_deinit) struct etc_view etc = {0};

	strv_add(&etc.arguments, "<etc>");
	local_config_read(object, &config, &errors);
	CHECK_INT(errors.count, 0);
	struct sandbox_spec spec = {.config = &config,
				    .bwrap = "bwrap",
				    .lease_dir = m->lease,
				    .hostname = "box",
				    .etc = &etc,
				    .system_root = m->root,
				    .as_root = as_root,
				    .info_fd = info_fd};
	if (sandbox_arguments(&spec, &list, &err) < 0)
		return xstrdup(err_text(&err));
	append_listed(&text, m, &list);
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
		       "<etc>\n"
		       "--dir\n/run\n--dir\n/var\n--symlink\n../run\n/var/run\n--symlink\n../tmp\n/var/tmp\n"
		       "--proc\n/proc\n--ro-bind\n/proc/sys\n/proc/sys\n--dev\n/dev\n"
		       "--bind\n@/lease/home\n/home/agent\n--bind\n@/lease/tmp\n/tmp\n--bind\n@/lease/workspace\n/workspace\n"
		       "--remount-ro\n/\n--chdir\n/\n--\n");
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
	cleanup_free char *json = xasprintf("{\"rootfs\":\"%s/r\"}", m.root);
	cleanup_free char *got = arguments(&m, json, false, -1);
	size_t start = position(got, "--symlink");
	CHECK_STR(got + start,
		  "--symlink\nusr/bin\n/bin\n--ro-bind\n@/r/etc\n/etc\n--ro-bind\n@/r/opt\n/opt\n--ro-bind\n@/r/usr\n/usr\n"
		  "--ro-bind\n@/r/var\n/var\n<etc>\n--dir\n/run\n"
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
	make_link(m.root, "/link", "/");
	cleanup_free char *link_json = xasprintf("{\"rootfs\":\"%s/link\"}", m.root);
	cleanup_free char *own = arguments(&m, link_json, false, -1);
	CHECK(str_ends_with(own, "/link is this machine's own root directory."));
	CHECK(str_ends_with(empty, "/empty does not hold a Linux system: it has neither usr nor bin."));
}

/* --- mount points --- */

static char *make_points(const struct machine *m, const char *json)
{
	cleanup_json json_t *object = json_loads(json, 0, NULL);
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv errors = {0};
	cleanup_err struct err err = ERR_INIT;

	local_config_read(object, &config, &errors);
	CHECK_INT(errors.count, 0);
	make_dir(m->root, "/lease/home");
	make_dir(m->root, "/lease/tmp");
	make_dir(m->root, "/lease/workspace");
	int rc = local_mount_points_make(&config, m->lease, &err);
	return xstrdup(rc < 0 ? err_text(&err) : "ok");
}

static bool machine_has(const struct machine *m, const char *path, mode_t type)
{
	cleanup_free char *full = join(m->root, path);
	struct stat st;

	return lstat(full, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

TEST(places_for_mounts_are_made_where_commands_may_write)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/s");
	make_file(m.root, "/f", "");
	cleanup_free char *json = xasprintf(
		"{\"workdir\":\"/home/agent/a/b\",\"binds\":[\"%s/s:/tmp/x/y:rw\",\"%s/f:/home/agent/a/b/c\","
		"\"%s/f:/tmp/x/y/in s\",\"%s/s:/opt/z\"]}",
		m.root, m.root, m.root, m.root);
	for (int i = 0; i < 2; i++) { /* the second time they are there */
		cleanup_free char *got = make_points(&m, json);
		CHECK_STR(got, "ok");
	}
	CHECK(machine_has(&m, "/lease/home/a/b", S_IFDIR));
	CHECK(machine_has(&m, "/lease/tmp/x/y", S_IFDIR));
	CHECK(machine_has(&m, "/lease/workspace/c", S_IFREG));
	CHECK(machine_has(&m, "/s/in s", S_IFREG));
}

TEST(links_in_the_place_of_mount_points_are_refused)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/lease/home");
	make_dir(m.root, "/outside");
	cleanup_free char *outside = join(m.root, "/outside");
	make_link(m.root, "/lease/home/a", outside);
	cleanup_free char *through = make_points(&m, "{\"workdir\":\"/home/agent/a/b\"}");
	cleanup_free char *at = make_points(&m, "{\"workdir\":\"/home/agent/a\"}");
	CHECK_STR(
		through,
		"/home/agent/a/b cannot be shown in the sandbox: \"a\" in it is a link or a file that a command has left there.");
	CHECK_STR(at,
		  "/home/agent/a cannot be shown in the sandbox: \"a\" in it is a link or a file that a command has left there.");
	CHECK(!machine_has(&m, "/outside/b", S_IFDIR));
}

TEST(what_is_shared_read_only_is_not_written_to)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/s");
	cleanup_free char *json = xasprintf("{\"binds\":[\"%s/s:/data\",\"%s/s:/data/sub\"]}", m.root, m.root);
	cleanup_free char *got = make_points(&m, json);
	CHECK_STR(got, "ok");
	CHECK(!machine_has(&m, "/s/sub", S_IFDIR));
}

/* --- /etc --- */

/* The view's arguments, one a line, each descriptor replaced by what it holds. Owned. */
static char *etc_view(const struct machine *m, const char *rootfs)
{
	cleanup(etc_view_deinit) struct etc_view view = {0};
	cleanup_strv struct strv list = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT;
	char content[4096];

	CHECK(local_etc_view(m->root, rootfs, "box", &view, &err) == 0);
	CHECK_STR(err_text(&err), "no error");
	for (size_t i = 0; i < view.arguments.count; i++) {
		bool is_fd = i > 0 && (str_eq(view.arguments.items[i - 1], "--file") ||
				       str_eq(view.arguments.items[i - 1], "--ro-bind-data"));
		ssize_t n = is_fd ? read((int)strtol(view.arguments.items[i], NULL, 10), content, sizeof content - 1) : 0;
		CHECK(n >= 0);
		content[n > 0 ? n : 0] = '\0';
		strv_add(&list, is_fd ? content : view.arguments.items[i]);
	}
	append_listed(&text, m, &list);
	return buf_steal(&text);
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
	cleanup_free char *got = etc_view(&m, NULL);
	CHECK_STR(got, "--perms\n0644\n--file\nroot:x:0:0:root:/root:/usr/sbin/nologin\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000::/home/agent:/bin/sh\n\n/"
		       "etc/passwd\n"
		       "--perms\n0644\n--file\nroot:x:0:\nnogroup:x:65534:\nagent:x:1000:\n\n/etc/group\n"
		       "--perms\n0644\n--file\n127.0.0.1 localhost\n10.0.0.1 db\n127.0.0.1 box\n\n/etc/hosts\n"
		       "--perms\n0644\n--file\nhosts: files dns\n\n/etc/nsswitch.conf\n"
		       "--perms\n0644\n--file\nx=y\n\n/etc/ssl/openssl.cnf\n");
}

TEST(links_into_the_system_stay_links_and_others_are_followed)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_link(m.root, "/etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
	make_dir(m.root, "/run");
	make_file(m.root, "/run/stub", "nameserver 127.0.0.53\n");
	make_link(m.root, "/etc/resolv.conf", "../run/stub");
	make_link(m.root, "/etc/timezone", "/nonexistent");
	make_dir(m.root, "/etc/profile");
	cleanup_free char *got = etc_view(&m, NULL);
	CHECK(strstr(got, "--symlink\n/usr/share/zoneinfo/Etc/UTC\n/etc/localtime\n"));
	CHECK(strstr(got, "--file\nnameserver 127.0.0.53\n\n/etc/resolv.conf\n"));
	CHECK(strstr(got,
		     "--file\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 box\n\n/etc/hosts\n"));
	CHECK(!strstr(got, "/etc/timezone") && !strstr(got, "/etc/profile"));
}

TEST(small_directories_are_copied_and_big_ones_shown)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/etc/profile.d");
	make_file(m.root, "/etc/profile.d/x y.sh", "export X=1\n");
	make_dir(m.root, "/etc/python3.11");
	make_dir(m.root, "/etc/fonts/conf.d");
	make_dir(m.root, "/etc/ssl/certs");
	make_dir(m.root, "/etc/ssh");
	make_dir(m.root, "/etc/pki/tls/private/x");
	for (int i = 0; i < 20; i++) {
		cleanup_free char *name = xasprintf("/etc/ssl/certs/%d.pem", i);
		make_file(m.root, name, "c");
	}
	cleanup_free char *got = etc_view(&m, NULL);
	CHECK(strstr(got, "--file\nexport X=1\n\n/etc/profile.d/x y.sh\n"));
	CHECK(strstr(got, "--ro-bind\n@/etc/fonts\n/etc/fonts\n") && strstr(got, "--ro-bind\n@/etc/ssl/certs\n/etc/ssl/certs\n"));
	CHECK(!strstr(got, "private") && !strstr(got, "ssh") && !strstr(got, "python"));
}

TEST(a_rootfs_keeps_its_users_but_for_ours)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/r/etc");
	make_file(m.root, "/r/etc/passwd",
		  "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nagent:x:5:5::/:/bin/no\nlast:x:7:7::/:/x");
	make_file(m.root, "/r/etc/group", "root:x:0:\nnode:x:1000:\n");
	make_file(m.root, "/r/etc/resolv.conf", "");
	make_file(m.root, "/etc/resolv.conf", "nameserver 1.2.3.4\n");
	make_file(m.root, "/etc/profile", "the host's\n");
	cleanup_free char *rootfs = join(m.root, "/r");
	cleanup_free char *got = etc_view(&m, rootfs);
	CHECK_STR(got, "--ro-bind-data\nroot:x:0:0::/root:/bin/sh\nlast:x:7:7::/:/x\nagent:x:1000:1000::/home/agent:/bin/sh\n\n/"
		       "etc/passwd\n"
		       "--ro-bind-data\nroot:x:0:\nagent:x:1000:\n\n/etc/group\n"
		       "--ro-bind-data\nnameserver 1.2.3.4\n\n/etc/resolv.conf\n");
}

TEST(links_of_a_rootfs_are_neither_followed_nor_covered)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_file(m.root, "/secret", "s3cret:x:7:7::/:/x\n");
	make_dir(m.root, "/r/etc");
	cleanup_free char *secret = join(m.root, "/secret");
	make_link(m.root, "/r/etc/passwd", secret);
	make_link(m.root, "/r/etc/resolv.conf", "/run/resolv.conf");
	cleanup_free char *rootfs = join(m.root, "/r");
	cleanup_free char *got = etc_view(&m, rootfs);
	CHECK_STR(got, "");
}

TEST(a_rootfs_without_etc_gets_none)
{
	cleanup_machine struct machine m;

	machine_init(&m);
	make_dir(m.root, "/r/bin");
	cleanup_free char *rootfs = join(m.root, "/r");
	cleanup_free char *got = etc_view(&m, rootfs);
	CHECK_STR(got, "");
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
