#include "providers/local/local.h"

#include "base/mem.h"
#include "fs.h"
#include "tap.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* A tree of plain files in the place of the kernel's. */
static char *make_tree(void)
{
	const char *tmp = getenv("TMPDIR");
	char *root = xasprintf("%s/test cgroup.XXXXXX", str_nonempty(tmp) ? tmp : "/tmp");

	CHECK(mkdtemp(root) != NULL);
	return root;
}

static void put(const char *root, const char *path, const char *text)
{
	cleanup_free char *full = xasprintf("%s%s", root, path);
	cleanup_free char *dir = xstrndup(full, (size_t)(strrchr(full, '/') - full));

	CHECK(fs_make_dirs(dir, 0755, NULL) == 0);
	CHECK(fs_write_file_atomic(AT_FDCWD, full, text, strlen(text), 0644, NULL) == 0);
}

static char *get(const char *root, const char *path)
{
	cleanup_free char *full = xasprintf("%s%s", root, path);
	struct buf text = BUF_INIT(4096);

	if (fs_read_file(AT_FDCWD, full, &text, NULL) < 0)
		return NULL;
	return buf_steal(&text);
}

static void put_group(const char *root, const char *path, const char *controllers, const char *handed_on)
{
	cleanup_free char *available = xasprintf("%s/cgroup.controllers", path);
	cleanup_free char *subtree = xasprintf("%s/cgroup.subtree_control", path);
	cleanup_free char *procs = xasprintf("%s/cgroup.procs", path);

	put(root, available, controllers);
	put(root, subtree, handed_on);
	put(root, procs, "");
}

static void remove_tree(char *root)
{
	CHECK(fs_remove_tree_now(root, NULL) == 0);
	free(root);
}

#define V2_MOUNT                                                                                                                 \
	"24 30 0:22 / /proc rw - proc proc rw\n31 30 0:28 / /cg\\040x rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"

static void check_site(const struct cgroup_site *site, int controller, const char *root, const char *want)
{
	cleanup_free char *path = want ? xasprintf("%s%s", root, want) : NULL;

	CHECK_STR(site->paths[controller], path);
}

TEST(a_delegated_group_that_hands_controllers_on_is_used)
{
	char *root = make_tree();
	struct cgroup_site site;

	put_group(root, "/cg x/a/b", "cpu memory pids\n", "memory pids cpu\n");
	cgroup_site_find("0::/a/b\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_V2);
	check_site(&site, CGROUP_MEMORY, root, "/cg x/a/b");
	check_site(&site, CGROUP_PIDS, root, "/cg x/a/b");
	check_site(&site, CGROUP_CPU, root, "/cg x/a/b");
	cgroup_site_deinit(&site);
	remove_tree(root);
}

TEST(controllers_that_are_not_handed_on_yet_are_asked_for)
{
	char *root = make_tree();
	struct cgroup_site site;

	put_group(root, "/cg x/a", "memory pids\n", "");
	cgroup_site_find("0::/a\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_V2);
	check_site(&site, CGROUP_CPU, root, NULL);
	cleanup_free char *asked = get(root, "/cg x/a/cgroup.subtree_control");
	CHECK_STR(asked, "+pidsry"); /* a plain file: the second order lies over the first */
	cgroup_site_deinit(&site);
	remove_tree(root);
}

TEST(an_ancestor_is_used_where_our_own_group_has_no_controllers)
{
	char *root = make_tree();
	struct cgroup_site site;

	put_group(root, "/cg x/user", "cpu memory pids\n", "cpu memory pids\n");
	put_group(root, "/cg x/user/app/worker", "\n", "");
	put_group(root, "/cg x/user/app", "memory\n", "memory\n");
	cgroup_site_find("1:name=systemd:/x\n0::/user/app/worker\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_V2);
	check_site(&site, CGROUP_MEMORY, root, "/cg x/user");
	cgroup_site_deinit(&site);
	remove_tree(root);
}

TEST(groups_that_are_not_ours_or_not_to_be_seen_are_not_used)
{
	char *root = make_tree();
	struct cgroup_site site;

	put(root, "/cg x/a/cgroup.controllers", "memory pids\n");
	put(root, "/cg x/a/cgroup.subtree_control", "memory pids\n"); /* no cgroup.procs that we may write to */
	cgroup_site_find("0::/a\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	cgroup_site_find("0::/../a\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	cgroup_site_find("0::/none\n", V2_MOUNT, root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	cgroup_site_find("", "", root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	cgroup_site_find("garbage\n::\n0:\n", "1 2 3\n - cgroup2\n", root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	remove_tree(root);
}

TEST(a_mount_of_a_part_of_the_hierarchy_is_understood)
{
	char *root = make_tree();
	struct cgroup_site site;

	put_group(root, "/cg/b", "memory pids\n", "memory pids\n");
	cgroup_site_find("0::/a/b\n", "31 30 0:28 /a /cg rw - cgroup2 cgroup2 rw\n", root, &site);
	check_site(&site, CGROUP_MEMORY, root, "/cg/b");
	cgroup_site_deinit(&site);
	cgroup_site_find("0::/other/b\n", "31 30 0:28 /a /cg rw - cgroup2 cgroup2 rw\n", root, &site);
	CHECK_INT(site.kind, CGROUP_NONE);
	remove_tree(root);
}

TEST(v1_controllers_are_found_one_by_one)
{
	char *root = make_tree();
	struct cgroup_site site;

	put(root, "/v1/memory/m/cgroup.procs", "");
	put(root, "/v1/cpu,cpuacct/cgroup.procs", "");
	cgroup_site_find("5:pids:/p\n4:memory:/m\n3:cpu,cpuacct:/\n0::/\n",
			 "1 2 0:1 / /v1/memory rw - cgroup cgroup rw,memory\n1 2 0:2 / /v1/pids rw - cgroup cgroup rw,pids\n"
			 "1 2 0:3 / /v1/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
			 root, &site);
	CHECK_INT(site.kind, CGROUP_V1);
	check_site(&site, CGROUP_MEMORY, root, "/v1/memory/m");
	check_site(&site, CGROUP_PIDS, root, NULL);
	check_site(&site, CGROUP_CPU, root, "/v1/cpu,cpuacct");
	cgroup_site_deinit(&site);
	remove_tree(root);
}

/* The kernel makes the files of a new group; here the test does, so the group's directories exist already. */
static void put_lease_group(const char *root, const char *base)
{
	static const char *const files[] = {"memory.max", "memory.swap.max",  "pids.max",
					    "cpu.max",    "run/cgroup.procs", "cgroup.kill"};

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		cleanup_free char *path = xasprintf("%s/paperclip-sandbox-id/%s", base, files[i]);
		put(root, path, "");
	}
}

TEST(a_group_has_the_limits_above_the_processes)
{
	char *root = make_tree();
	struct cgroup_site site;
	struct cgroup group;
	struct local_config config = {.memory_mb = 64, .max_processes = 20, .cpus = 1.5};
	cleanup_err struct err err = ERR_INIT;

	put_group(root, "/cg x/a", "cpu memory pids\n", "cpu memory pids\n");
	put_lease_group(root, "/cg x/a");
	cgroup_site_find("0::/a\n", V2_MOUNT, root, &site);
	CHECK(cgroup_create(&site, "id", &config, &group, &err) == 0);
	CHECK_STR(err_text(&err), "no error");
	cleanup_free char *memory = get(root, "/cg x/a/paperclip-sandbox-id/memory.max");
	cleanup_free char *swap = get(root, "/cg x/a/paperclip-sandbox-id/memory.swap.max");
	cleanup_free char *pids = get(root, "/cg x/a/paperclip-sandbox-id/pids.max");
	cleanup_free char *cpu = get(root, "/cg x/a/paperclip-sandbox-id/cpu.max");
	CHECK_STR(memory, "67108864");
	CHECK_STR(swap, "0");
	CHECK_STR(pids, "20");
	CHECK_STR(cpu, "150000 100000");
	CHECK(cgroup_join(&group) == 0);
	cleanup_free char *procs = get(root, "/cg x/a/paperclip-sandbox-id/run/cgroup.procs");
	CHECK(procs && procs[0] == '0');
	cgroup_remove(&group);
	cleanup_free char *kill = get(root, "/cg x/a/paperclip-sandbox-id/cgroup.kill");
	CHECK_STR(kill, "1");
	cgroup_site_deinit(&site);
	remove_tree(root);
}

TEST(no_group_is_made_for_limits_that_nobody_asked_for)
{
	char *root = make_tree();
	struct cgroup_site site;
	struct cgroup group;
	struct local_config config = {.cpu_seconds = 5};

	put_group(root, "/cg x/a", "cpu memory pids\n", "cpu memory pids\n");
	cgroup_site_find("0::/a\n", V2_MOUNT, root, &site);
	CHECK(cgroup_create(&site, "id", &config, &group, NULL) == 0);
	cleanup_free char *dir = xasprintf("%s/cg x/a/paperclip-sandbox-id", root);
	CHECK(access(dir, F_OK) < 0);
	CHECK(cgroup_join(&group) == 0);
	cgroup_remove(&group);
	cgroup_site_deinit(&site);
	remove_tree(root);
}

TEST(a_group_that_cannot_be_limited_leaves_nothing)
{
	char *root = make_tree();
	struct cgroup_site site;
	struct cgroup group;
	struct local_config config = {.memory_mb = 64};
	cleanup_err struct err err = ERR_INIT;

	put_group(root, "/cg x/a", "memory pids\n", "memory pids\n"); /* no memory.max appears in the new directory */
	cgroup_site_find("0::/a\n", V2_MOUNT, root, &site);
	CHECK(cgroup_create(&site, "id", &config, &group, &err) < 0);
	CHECK(strstr(err_text(&err), "set the memory limit of control group"));
	cleanup_free char *dir = xasprintf("%s/cg x/a/paperclip-sandbox-id", root);
	CHECK(access(dir, F_OK) < 0);
	cgroup_site_deinit(&site);
	remove_tree(root);
}

static const struct cgroup_site no_site;

TEST(without_groups_the_plan_is_rlimits_and_says_what_is_missing)
{
	struct local_config config = {.memory_mb = 64, .max_processes = 20, .cpus = 1, .cpu_seconds = 9};
	struct limits_plan plan;
	cleanup_strv struct strv gaps = {0};

	limits_plan(&config, &no_site, true, &plan);
	CHECK(plan.memory == LIMIT_RLIMIT && plan.processes == LIMIT_UNENFORCED && plan.cpus == LIMIT_UNENFORCED &&
	      plan.cpu_seconds == LIMIT_RLIMIT);
	limits_describe_gaps(&plan, &gaps);
	CHECK_INT(gaps.count, 3);
	CHECK(str_starts_with(gaps.items[0], "memoryMb limits each process"));
	CHECK(str_starts_with(gaps.items[1], "maxProcesses is not enforced"));
	CHECK(str_starts_with(gaps.items[2], "cpus is not enforced"));
}

TEST(a_config_without_limits_has_no_gaps)
{
	struct local_config config = {0};
	struct limits_plan plan;
	cleanup_strv struct strv gaps = {0};

	limits_plan(&config, &no_site, true, &plan);
	limits_describe_gaps(&plan, &gaps);
	CHECK_INT(gaps.count, 0);
}

TEST_MAIN()
