/* init_launch: starts the init program, directly or through a launcher, as a child process. */
#ifndef INIT_LAUNCH_H
#define INIT_LAUNCH_H

#include "process.h"

struct init_child {
	pid_t pid;      /* of the launcher, or of the init itself; the caller reaps it */
	int control_fd; /* owned; our end of the socket (wire.h) */
	int words_fd;   /* owned; memfd with what the launcher printed on stderr */
};

/* Holds the program's memfd open until the matching release. */
int init_launch(const struct init_options *options, struct init_child *ret, struct err *err);
void init_launch_release(void);

/*
 * Sets err for a launcher that has ended before the init was ready: what it printed, or that it could not be executed.
 * wait_status: its end, as waitpid says it. Returns -1.
 */
int init_launch_explain(const struct init_child *child, const char *name, int wait_status, struct err *err);

#endif
