/*
 * init_client: what process.c asks of an init: start a command, signal its tree, be told how it goes.
 *
 * All in one thread, from fibers; nothing here waits. What the init tells is noted in the struct init_command, whose event is
 * set then.
 */
#ifndef INIT_CLIENT_H
#define INIT_CLIENT_H

#include "base/list.h"
#include "fiber.h"
#include "process.h"

/* One command, in its owner's memory, from init_spawn to init_forget. */
struct init_command {
	struct init_supervisor *supervisor; /* NULL: none, or no more */
	struct event *changed;              /* borrowed; set with each change of what follows */
	bool failed;                        /* not started: start_errno, start_step */
	bool exited;                        /* wait_status */
	bool ended;                         /* no process of the tree is left; implied by failed, not by exited */
	bool lost;                          /* the supervisor was killed, or the init is dead: nothing more will come */
	int wait_status;
	int start_errno;
	enum process_step start_step;
};

/* Bytes that a command's strings may have in all: Linux has no larger limit (three quarters of 8 MiB). */
#define COMMAND_STRINGS_MAX ((size_t)6 << 20)

/*
 * Has the command started; stdio[0..2] become its 0 to 2 and are taken over (closed) in any case. Returns 0: the rest is told in
 * *command (already for strings that are too long: E2BIG). -1: the init is dead, or memory for the request is not to be had.
 */
int init_spawn(struct init *init, const struct process_spec *spec, const int stdio[3], struct init_command *command,
	       struct err *err);
/* To all that the command has started and that is still there. Without effect when the tree has ended. */
void init_signal(const struct init_command *command, int signo);
/* The command's owner loses interest; a tree that is still there lives on. Harmless when repeated. */
void init_forget(struct init_command *command);

/* Keeps the memory: until the release, all functions above and init_is_alive may be called. */
struct init *init_hold(struct init *init);
void init_release(struct init *init);

/* Something that is to be closed when the init is stopped: called at most once, after it was taken out of the list. */
struct init_hanger_on {
	struct list link;
	void (*close)(struct init_hanger_on *self);
};
void init_add_hanger_on(struct init *init, struct init_hanger_on *item);

#endif
