#include "base/cleanup.h"
#include "base/mem.h"
#include "tap.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Refused allocations give NULL under AddressSanitizer too. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static volatile size_t impossible = SIZE_MAX / 4;

/* Runs the function in a child; returns its wait status and what it wrote to stderr. */
static int run_in_child(void (*function)(void), char *text, size_t size)
{
	int fds[2], status = 0;
	size_t len = 0;

	if (pipe(fds) < 0)
		return -1;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		dup2(fds[1], 2);
		function();
		_exit(0);
	}
	close(fds[1]);
	for (ssize_t n; len < size - 1 && (n = read(fds[0], text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = '\0';
	close(fds[0]);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void malloc_too_much(void)
{
	free(xmalloc(impossible));
}

static void calloc_too_much(void)
{
	free(xcalloc(impossible, 16));
}

static void realloc_too_much(void)
{
	free(xrealloc(xmalloc(1), impossible));
}

TEST(a_refused_allocation_ends_the_program_with_a_message)
{
	void (*const functions[])(void) = {malloc_too_much, calloc_too_much, realloc_too_much};
	char text[4096];

	for (size_t i = 0; i < 3; i++) {
		int status = run_in_child(functions[i], text, sizeof(text));

		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		CHECK(strstr(text, "paperclip-sandbox-worker: out of memory\n"));
	}
}

TEST(nothing_is_allocated_as_something)
{
	cleanup_free void *a = xmalloc(0), *b = xcalloc(0, 8), *c = xrealloc(NULL, 0);

	CHECK(a && b && c);
}

TEST(allocated_and_cleared_memory_is_zero)
{
	cleanup_free char *p = xcalloc(100, 10);

	for (int i = 0; i < 1000; i++) {
		if (p[i])
			tap_fail(__FILE__, __LINE__, "byte %d is not 0", i);
	}
}

TEST(copies_are_terminated)
{
	cleanup_free char *s = xstrdup("abc"), *n = xstrndup("abcdef", 2), *m = xmemdup0("a\0b", 3), *none = xmemdup0(NULL, 0);
	cleanup_free char *f = xasprintf("%s-%d", "x", 5);

	CHECK_STR(s, "abc");
	CHECK_STR(n, "ab");
	CHECK_MEM(m, 4, "a\0b\0", 4);
	CHECK_STR(none, "");
	CHECK_STR(f, "x-5");
}

TEST(wiped_memory_is_zero)
{
	char secret[] = "secret";

	mem_wipe(secret, sizeof(secret));
	CHECK_MEM(secret, sizeof(secret), "\0\0\0\0\0\0", 7);
	mem_wipe(NULL, 0);
	str_wipe_free(NULL);
	str_wipe_free(xstrdup("secret"));
}

TEST_MAIN()
