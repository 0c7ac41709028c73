#include "fs.h"

#include "base/mem.h"
#include "base/str.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory of the test's own, with a space in its name. */
static char *make_scratch(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path = xasprintf("%s/test fs.XXXXXX", str_nonempty(tmp) ? tmp : "/tmp");

	if (!mkdtemp(path))
		tap_fail(__FILE__, __LINE__, "mkdtemp %s", path);
	return path;
}

static char *join(const char *a, const char *b)
{
	return xasprintf("%s/%s", a, b);
}

static bool exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void put_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = join(dir, name);
	cleanup_err struct err err = ERR_INIT;

	CHECK(fs_write_file_atomic(AT_FDCWD, path, text, strlen(text), 0600, &err) == 0);
	CHECK_STR(err_text(&err), "no error");
}

static void remove_scratch(const char *path)
{
	cleanup_err struct err err = ERR_INIT;

	CHECK(fs_remove_tree_now(path, &err) == 0);
	CHECK_STR(err_text(&err), "no error");
	CHECK(!exists(path));
}

TEST(make_dirs_makes_missing_parents_and_takes_what_is_there)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *deep = join(top, "a//b c/d/");
	struct stat st;

	CHECK(fs_make_dirs(deep, 0700, NULL) == 0);
	CHECK(stat(deep, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700);
	CHECK(fs_make_dirs(deep, 0700, NULL) == 0);
	remove_scratch(top);
}

TEST(make_dirs_fails_where_a_file_is_in_the_way)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *file = join(top, "file");
	cleanup_free char *below = join(file, "dir");
	cleanup_err struct err one = ERR_INIT;
	cleanup_err struct err two = ERR_INIT;

	put_file(top, "file", "x");
	CHECK(fs_make_dirs(file, 0700, &one) < 0 && one.sys_errno == ENOTDIR);
	CHECK(fs_make_dirs(below, 0700, &two) < 0 && two.sys_errno == ENOTDIR);
	remove_scratch(top);
}

TEST(a_written_file_is_read_back_and_leaves_no_temporary_file)
{
	cleanup_free char *top = make_scratch();
	cleanup_buf struct buf got = BUF_INIT(100);
	cleanup_close int dir_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int names = 0;

	CHECK(fs_write_file_atomic(dir_fd, "state.json", "old", 3, 0600, NULL) == 0);
	CHECK(fs_write_file_atomic(dir_fd, "state.json", "n\0w", 3, 0600, NULL) == 0);
	CHECK(fs_read_file(dir_fd, "state.json", &got, NULL) == 0);
	CHECK_MEM(got.data, got.len, "n\0w", 3);
	DIR *dir = opendir(top);
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		names += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	CHECK_INT(names, 1);
	remove_scratch(top);
}

TEST(write_into_a_missing_directory_is_an_error)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *path = join(top, "none/file");
	cleanup_err struct err err = ERR_INIT;

	CHECK(fs_write_file_atomic(AT_FDCWD, path, "x", 1, 0600, &err) < 0);
	CHECK(err.kind == ERR_SYSTEM && err.sys_errno == ENOENT);
	remove_scratch(top);
}

TEST(read_refuses_what_is_too_big_missing_a_link_a_fifo_or_a_directory)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *fifo = join(top, "fifo");
	cleanup_free char *link = join(top, "link");
	cleanup_free char *file = join(top, "file");
	cleanup_buf struct buf exact = BUF_INIT(4);
	cleanup_buf struct buf small = BUF_INIT(3);
	cleanup_err struct err big = ERR_INIT;
	cleanup_err struct err none = ERR_INIT;
	cleanup_err struct err loop = ERR_INIT;
	cleanup_err struct err pipe_err = ERR_INIT;
	cleanup_err struct err dir_err = ERR_INIT;

	cleanup_buf struct buf nothing = BUF_INIT(4);
	cleanup_free char *empty = join(top, "empty");

	put_file(top, "empty", "");
	CHECK(fs_read_file(AT_FDCWD, empty, &nothing, NULL) == 0);
	CHECK_STR(nothing.data, "");
	put_file(top, "file", "1234");
	CHECK(mkfifo(fifo, 0600) == 0);
	CHECK(symlink("file", link) == 0);
	CHECK(fs_read_file(AT_FDCWD, file, &exact, NULL) == 0);
	CHECK_MEM(exact.data, exact.len, "1234", 4);
	CHECK(fs_read_file(AT_FDCWD, file, &small, &big) < 0 && big.kind == ERR_INVALID);
	CHECK(fs_read_file(AT_FDCWD, "/nonexistent/x", &small, &none) < 0 && none.sys_errno == ENOENT);
	CHECK(fs_read_file(AT_FDCWD, link, &small, &loop) < 0 && loop.sys_errno == ELOOP);
	CHECK(fs_read_file(AT_FDCWD, fifo, &small, &pipe_err) < 0 && pipe_err.kind == ERR_INVALID);
	CHECK(fs_read_file(AT_FDCWD, top, &small, &dir_err) < 0 && dir_err.kind == ERR_INVALID);
	remove_scratch(top);
}

TEST(removing_what_is_not_there_is_success)
{
	CHECK(fs_remove_tree_now("/nonexistent/a/b", NULL) == 0);
}

TEST(removing_a_link_leaves_its_target)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *kept = join(top, "kept");
	cleanup_free char *gone = join(top, "gone");
	cleanup_free char *inner = join(gone, "to kept");
	cleanup_free char *file = join(kept, "file");

	CHECK(fs_make_dirs(kept, 0700, NULL) == 0 && fs_make_dirs(gone, 0700, NULL) == 0);
	put_file(kept, "file", "x");
	CHECK(symlink(kept, inner) == 0);
	remove_scratch(gone);
	CHECK(exists(file));
	CHECK(symlink(kept, gone) == 0);
	remove_scratch(gone);
	CHECK(exists(file));
	remove_scratch(top);
}

TEST(a_tree_with_locked_directories_odd_names_and_many_files_is_removed)
{
	cleanup_free char *top = make_scratch();
	cleanup_free char *locked = join(top, "locked/in/side");
	cleanup_free char *middle = join(top, "locked/in");
	cleanup_free char *outer = join(top, "locked");
	cleanup_free char *fifo = join(top, "new\nline");
	char name[32];

	CHECK(fs_make_dirs(locked, 0700, NULL) == 0);
	for (int i = 0; i < 700; i++) {
		snprintf(name, sizeof name, "file %d", i);
		put_file(i % 2 ? locked : top, name, "");
	}
	CHECK(mkfifo(fifo, 0600) == 0);
	CHECK(chmod(locked, 0500) == 0 && chmod(middle, 0) == 0 && chmod(outer, 0400) == 0);
	remove_scratch(top);
}

TEST(any_depth_is_removed_with_few_descriptors)
{
	cleanup_free char *top = make_scratch();
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 3000; i++) {
		CHECK(mkdirat(fd, "down", 0700) == 0 && mkdirat(fd, "beside", 0500) == 0);
		int next = openat(fd, "down", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	remove_scratch(top);
}

TEST(a_file_that_cannot_be_removed_is_named)
{
	cleanup_err struct err err = ERR_INIT;

	CHECK(fs_remove_tree_now("/proc/self/fd", &err) < 0);
	CHECK(err.kind == ERR_SYSTEM && strstr(err_text(&err), "remove /proc/self/fd"));
}

TEST_MAIN()
