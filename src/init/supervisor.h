/*
 * supervisor: a process between the init and one command at a time. As child subreaper it stays the ancestor of all that the
 * command starts, also of what forks twice and leaves the session; so the tree can be signalled and waited for as a whole. When
 * the tree has ended it is ready for the next command: most commands cost no fork but their own.
 */
#ifndef INIT_SUPERVISOR_H
#define INIT_SUPERVISOR_H

#include "packet.h"
#include "tree.h"

/* The kernel sends it to a supervisor when the init has died. Has a handler, as SIGCHLD; blocked but in polls. */
#define SUPERVISOR_ORPHANED SIGUSR1

/*
 * In a new child of the init, whose pid is given: serves the socket, does not return. The packet is memory to use. Exits with 0
 * when the worker has closed the socket and no tree is left.
 */
_Noreturn void supervisor_main(int socket_fd, pid_t init, const struct tree *tree, struct packet *packet);

#endif
