#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PID_LIMIT 4194304 /* PID_MAX_LIMIT of every 64-bit kernel */

struct pids {
	pid_t *items;
	size_t count, cap;
};

/* What one look at the processes has seen, breadth first. */
struct walk {
	const struct tree *tree;
	struct pids found;   /* descendants, each after its parent */
	struct pids all;     /* scan only: every process of the namespace … */
	struct pids parents; /* … and its parent */
};

/* Memory may run out where a tree went wild: what is known then is dealt with, the next look finds the rest. */
static void pids_add(struct pids *pids, pid_t pid)
{
	if (pids->count == pids->cap) {
		size_t cap = pids->cap ? 2 * pids->cap : 64;
		pid_t *items = realloc(pids->items, cap * sizeof(*items));

		if (!items)
			return;
		pids->items = items;
		pids->cap = cap;
	}
	pids->items[pids->count++] = pid;
}

static void walk_deinit(struct walk *walk)
{
	free(walk->found.items);
	free(walk->all.items);
	free(walk->parents.items);
}

/* --- reading /proc: no stdio, whose buffers and locks each supervisor would carry along --- */

/* "<pid>", or "<pid>/<name>" and so on: parts up to NULL; numbers come as strings already. */
static void join_path(char *path, size_t size, const char *const *parts)
{
	size_t len = 0;

	for (; *parts; parts++) {
		size_t n = strlen(*parts);

		if (len + n + 1 >= size)
			break;
		memcpy(path + len, *parts, n);
		len += n;
		path[len++] = '/';
	}
	path[len ? len - 1 : 0] = '\0';
}

static const char *number_text(pid_t pid, char text[12])
{
	char *p = text + 11;

	*p = '\0';
	do
		*--p = (char)('0' + pid % 10);
	while (pid /= 10);
	return p;
}

/* The number at *text, which moves behind it; -1 if there is none. */
static pid_t take_number(const char **text)
{
	const char *p = *text;
	long n = 0;

	while (*p == ' ')
		p++;
	if (*p < '0' || *p > '9')
		return -1;
	for (; *p >= '0' && *p <= '9' && n <= PID_LIMIT; p++)
		n = 10 * n + (*p - '0');
	*text = p;
	return n <= PID_LIMIT ? (pid_t)n : -1;
}

typedef void entry_fn(struct walk *walk, pid_t owner, const char *name);

/* Calls fn for the entries of the directory whose names are numbers. */
static void each_number_in(struct walk *walk, const char *path, pid_t owner, entry_fn *fn)
{
	_Alignas(struct dirent64) char entries[4096];
	int fd = openat(walk->tree->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return;
	while ((n = getdents64(fd, entries, sizeof(entries))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);

			if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
				fn(walk, owner, entry->d_name);
			at += entry->d_reclen;
		}
	}
	close(fd);
}

/* /proc/<pid>/task/<tid>/children: the children that this thread has, separated by blanks. */
static void add_children_of_thread(struct walk *walk, pid_t pid, const char *tid)
{
	char path[64], number[12], text[4096];
	size_t kept = 0;
	ssize_t n;

	join_path(path, sizeof(path), (const char *const[]){number_text(pid, number), "task", tid, "children", NULL});
	int fd = openat(walk->tree->proc_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while ((n = read(fd, text + kept, sizeof(text) - 1 - kept)) > 0) {
		const char *p = text;

		text[kept + (size_t)n] = '\0';
		/* Each number is followed by a blank: what has none yet is cut and waits for the next read. */
		for (const char *end; (end = strchr(p, ' ')); p = end + 1) {
			pid_t child = take_number(&p);

			if (child > 0)
				pids_add(&walk->found, child);
		}
		kept = strlen(p);
		memmove(text, p, kept);
	}
	close(fd);
}

/* /proc/<pid>/stat: "<pid> (<name, with any byte>) <state> <parent> …". */
static void add_process(struct walk *walk, pid_t owner, const char *pid_text)
{
	char path[64], text[512];
	pid_t pid = take_number(&(const char *){pid_text});

	(void)owner;
	join_path(path, sizeof(path), (const char *const[]){pid_text, "stat", NULL});
	int fd = openat(walk->tree->proc_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	const char *p = strrchr(text, ')');

	if (!p || strlen(p) < 5)
		return;
	p += 4; /* ") S " */
	pid_t parent = take_number(&p);

	if (pid < 0 || parent < 0)
		return;
	pids_add(&walk->all, pid);
	pids_add(&walk->parents, parent);
	if (walk->parents.count < walk->all.count) /* memory ended between the two */
		walk->all.count--;
}

static void add_children(struct walk *walk, pid_t pid)
{
	char path[32], number[12];

	if (!walk->tree->scan) {
		join_path(path, sizeof(path), (const char *const[]){number_text(pid, number), "task", NULL});
		each_number_in(walk, path, pid, add_children_of_thread);
		return;
	}
	for (size_t i = 0; i < walk->all.count; i++)
		if (walk->parents.items[i] == pid)
			pids_add(&walk->found, walk->all.items[i]);
}

/* --- signals --- */

typedef void visit_fn(pid_t pid, void *arg);

/*
 * Fills walk->found. visit (NULL: none) gets each process before its children are looked up. A pid is used a moment after it was
 * seen; for it to mean another process by then, the kernel would have to go through all pids in between.
 */
static void walk_tree(struct walk *walk, tree_skip_fn *skip, visit_fn *visit, void *arg)
{
	size_t kept = 0;

	if (walk->tree->scan)
		each_number_in(walk, ".", 0, add_process);
	add_children(walk, getpid());
	for (size_t i = 0; i < walk->found.count; i++)
		if (!skip || !skip(walk->found.items[i]))
			walk->found.items[kept++] = walk->found.items[i];
	walk->found.count = kept;
	for (size_t i = 0; i < walk->found.count; i++) {
		if (visit)
			visit(walk->found.items[i], arg);
		add_children(walk, walk->found.items[i]);
	}
}

static void signal_all(const struct pids *pids, int signo)
{
	for (size_t i = 0; i < pids->count; i++)
		kill(pids->items[i], signo);
}

void tree_signal(const struct tree *tree, int signo)
{
	struct walk walk = {.tree = tree};

	/* All are looked up first: where a parent dies of the signal, its children move elsewhere. */
	walk_tree(&walk, NULL, NULL, NULL);
	signal_all(&walk.found, signo);
	signal_all(&walk.found, SIGCONT); /* what is stopped could not act on it */
	walk_deinit(&walk);
}

struct stopped {
	unsigned char *bits; /* one a pid; mapped, so that only the pages of real pids exist */
	struct pids pids;
	bool any_new;
};

static void stop(pid_t pid, void *arg)
{
	struct stopped *stopped = arg;
	unsigned char bit = (unsigned char)(1u << (pid % 8));

	if (stopped->bits[pid / 8] & bit)
		return;
	stopped->bits[pid / 8] |= bit;
	stopped->any_new = true;
	pids_add(&stopped->pids, pid);
	kill(pid, SIGSTOP);
}

void tree_kill(const struct tree *tree, tree_skip_fn *skip)
{
	const size_t size = PID_LIMIT / 8 + 1;
	struct stopped stopped = {0};

	stopped.bits = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (stopped.bits == MAP_FAILED)
		return;
	do {
		struct walk walk = {.tree = tree};

		stopped.any_new = false;
		walk_tree(&walk, skip, stop, &stopped);
		walk_deinit(&walk);
	} while (stopped.any_new);
	signal_all(&stopped.pids, SIGKILL);
	free(stopped.pids.items);
	munmap(stopped.bits, size);
}

/* --- */

int tree_init(struct tree *tree)
{
	char path[64], number[12], self[12] = "";
	const char *pid = number_text(getpid(), number);

	tree->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree->proc_fd < 0)
		return -1;
	if (readlinkat(tree->proc_fd, "self", self, sizeof(self) - 1) < 0 || strcmp(self, pid) != 0) {
		tree_deinit(tree);
		errno = ESRCH;
		return -1;
	}
	join_path(path, sizeof(path), (const char *const[]){pid, "task", pid, "children", NULL});
	tree->scan = faccessat(tree->proc_fd, path, R_OK, 0) < 0;
	return 0;
}

void tree_deinit(struct tree *tree)
{
	close(tree->proc_fd);
	tree->proc_fd = -1;
}
