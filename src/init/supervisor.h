/*
 * supervisor: a process between the init and one command. As child subreaper it stays the ancestor of all that the command
 * starts, also of what forks twice and leaves the session; so the tree can be named, signalled and waited for as a whole. It
 * ends when the tree is empty.
 */
#ifndef INIT_SUPERVISOR_H
#define INIT_SUPERVISOR_H

#include "tree.h"
#include "wire.h"

struct supervisor {
	const struct wire_spawn *head;
	char *strings; /* of the packet; NULL: in the memfd */
	int memfd;     /* or -1 */
	int stdio[3];
	int control_fd;
	pid_t init;
	const struct tree *tree;
};

/*
 * What the init sends to have the tree signalled: one real-time signal for each standard one. Not sigqueue with a value: that
 * fails where the user's limit of queued signals is used up, kill does not.
 */
#define SUPERVISOR_SIGNAL(signo) (SIGRTMIN + (signo))
#define SUPERVISOR_SIGNO_MAX 30

/* In the new child of the init: does not return. Exits with 0 if the worker was told how it ended. */
_Noreturn void supervisor_main(const struct supervisor *s);

/* Sends an event to the worker; lost if the worker is gone. */
void send_event(int control_fd, enum wire_type type, uint64_t id, int value, unsigned detail);

#endif
