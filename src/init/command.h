/* command: one request to start something, and how the process that was made for it becomes the command. */
#ifndef INIT_COMMAND_H
#define INIT_COMMAND_H

#include "wire.h"

#include <stddef.h>

/* A decoded WIRE_SPAWN; the strings are borrowed from the packet or its memfd. */
struct command {
	const char *file;
	const char *search_path; /* NULL: none */
	const char *cwd;         /* NULL: stay */
	char **argv;             /* owned, NULL-terminated */
	char **envp;             /* part of the same memory */
};

/* 0, or an errno value: EPROTO for strings that do not match the head, ENOMEM. */
int command_decode(struct command *command, const struct wire_spawn *head, char *strings);

struct command_failure {
	enum wire_step step;
	int error; /* errno value; 0: none */
};

/*
 * In the child of a vfork: a new session, stdio[0..2] as 0 to 2, all signals as a fresh process has them, the directory, then the
 * program. Returns, with *failure set, only if that fails. All other descriptors must be close-on-exec and above 2.
 */
void command_become(const struct command *command, const int stdio[3], volatile struct command_failure *failure);

#endif
