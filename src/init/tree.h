/*
 * tree: all descendants of this process, found in /proc by who is whose parent. Since the caller is a child subreaper, that
 * holds also for those that left their session or lost their parent.
 */
#ifndef INIT_TREE_H
#define INIT_TREE_H

#include <stdbool.h>
#include <sys/types.h>

struct tree {
	int proc_fd; /* of /proc, opened before any command could mount something over it */
	bool scan;   /* read the parent of every process: the kernel does not list children (no CONFIG_PROC_CHILDREN) */
};

/* -1 with errno: /proc is missing, or shows another pid namespace (ESRCH). */
int tree_init(struct tree *tree);
void tree_deinit(struct tree *tree);

/* A direct child of the caller that is to be left alone, with all that is below it. */
typedef bool tree_skip_fn(pid_t child);

/* Sends signo to each descendant that is there now. */
void tree_signal(const struct tree *tree, int signo);
/*
 * Kills all descendants but those below skipped children (skip NULL: none is). Each is stopped first, until no unknown one is
 * left: what is stopped cannot fork, so a tree does not outgrow its killer. A descendant that hides at the right moment (its
 * parent dies while we look) ends up as a child of the caller: call again whenever SIGCHLD comes, until wait says ECHILD.
 */
void tree_kill(const struct tree *tree, tree_skip_fn *skip);

#endif
