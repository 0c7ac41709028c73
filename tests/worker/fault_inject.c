/*
 * Preloaded into the worker by test_faults.py: one call of a libc function fails, once.
 *
 * FAULT=<function>:<n>:<errno> makes the n-th call fail; n = 0 counts only. The number of calls is written to the file FAULT_COUNT at
 * exit, so that the test knows when it has been through all of them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char function[32];
static long countdown;
static int number;
static atomic_long calls;
static bool ready;

__attribute__((constructor)) static void start(void)
{
	const char *plan = getenv("FAULT");

	if (plan && sscanf(plan, "%31[a-z0-9_]:%ld:%d", function, &countdown, &number) == 3)
		ready = true;
}

__attribute__((destructor)) static void finish(void)
{
	const char *path = getenv("FAULT_COUNT");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
	char text[32];

	ready = false;
	if (fd < 0)
		return;
	int n = snprintf(text, sizeof(text), "%ld", atomic_load(&calls));

	if (write(fd, text, (size_t)n) != n)
		_exit(99);
	close(fd);
}

/* Is this the call that has to fail? Sets errno then. */
static bool fails(const char *name)
{
	if (!ready || strcmp(name, function) != 0)
		return false;
	if (atomic_fetch_add(&calls, 1) + 1 != countdown)
		return false;
	errno = number;
	return true;
}

#define WRAP(result, name, params, args, failure)                                                                                \
	result name params;                                                                                                      \
	result name params                                                                                                       \
	{                                                                                                                        \
		static result(*real) params;                                                                                     \
		if (fails(#name))                                                                                                \
			return failure;                                                                                          \
		if (!real)                                                                                                       \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                                               \
		return real args;                                                                                                \
	}

WRAP(int, pipe2, (int fds[2], int flags), (fds, flags), -1)
WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds), -1)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), -1)
WRAP(char *, mkdtemp, (char *template), (template), NULL)
WRAP(int, renameat, (int from_dir, const char *from, int to_dir, const char *to), (from_dir, from, to_dir, to), -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), -1)
WRAP(int, flock, (int fd, int operation), (fd, operation), -1)
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), -1)

/* The mode is there only with O_CREAT, but passing one more word does no harm on the machines that we build for. */
#define WRAP_OPEN(name, params, args)                                                                                            \
	int name params;                                                                                                         \
	int name params                                                                                                          \
	{                                                                                                                        \
		static int(*real) params;                                                                                        \
		if (fails(#name))                                                                                                \
			return -1;                                                                                               \
		if (!real)                                                                                                       \
			*(void **)&real = dlsym(RTLD_NEXT, #name);                                                               \
		va_list ap;                                                                                                      \
		va_start(ap, flags);                                                                                             \
		mode_t mode = va_arg(ap, mode_t);                                                                                \
		va_end(ap);                                                                                                      \
		return real args;                                                                                                \
	}

WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

/* AddressSanitizer has its own allocator, which is not to be replaced. */
#ifndef __SANITIZE_ADDRESS__
/* dlsym itself allocates: memory comes from libc's own entry points. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);

void *malloc(size_t size)
{
	return fails("malloc") ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails("malloc") ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	return fails("malloc") ? NULL : __libc_realloc(p, size);
}
#endif
