/*
 * wire: what the worker, an init and its supervisors say to each other.
 *
 * All talk over AF_UNIX pairs of type SOCK_SEQPACKET: one packet is one message, there is nothing to frame and nothing comes in
 * halves. Both ends come out of one build and run on one machine: the structs travel as they lie in memory.
 *
 * The control socket, worker and init:
 *	init -> worker        READY, once
 *	worker -> init        SUPERVISOR, with the far end of a new pair; the socket's end: kill everything and exit
 *
 * A supervisor's socket, worker and supervisor:
 *	worker -> supervisor  SPAWN, and while its tree is there SIGNAL
 *	supervisor -> worker  FAILED; or EXITED, then (with it or later) that the tree has ended: then it is ready for the next SPAWN
 *
 * The worker may send SPAWN before the init has forked the supervisor: the kernel keeps it. When the worker closes a
 * supervisor's socket, a tree that is still there lives on unobserved. When a supervisor is killed, the kernel closes the
 * socket: no message can be lost without the worker knowing.
 */
#ifndef INIT_WIRE_H
#define INIT_WIRE_H

#include <stdint.h>

enum wire_type {
	WIRE_SUPERVISOR = 1, /* struct wire_event; descriptor: the socket */
	WIRE_SPAWN,          /* struct wire_spawn and strings; descriptors: stdin, stdout, stderr and perhaps a memfd */
	WIRE_SIGNAL,         /* the rest: struct wire_event. To the whole tree; value is the number */
	WIRE_READY,
	WIRE_FAILED, /* not started: value is the errno, detail the step; there is no tree */
	WIRE_EXITED, /* the command itself has ended: value is the wait status */
	WIRE_ENDED   /* no process of the tree is left */
};

/* Strings of a SPAWN that fit go in the packet (well below the socket's default buffer, 208 KiB); longer ones in a memfd. */
#define WIRE_INLINE_MAX (32 * 1024)
#define WIRE_FDS_MAX 4

enum {
	WIRE_HAS_SEARCH_PATH = 1,
	WIRE_HAS_CWD = 2,
	WIRE_IN_MEMFD = 4, /* size bytes from its start */
};

/* The strings, each with its NUL: file, search path if any, cwd if any, argc of argv, envc of envp. */
struct wire_spawn {
	uint32_t type;
	uint32_t flags;
	uint32_t argc;
	uint32_t envc;
	uint64_t size; /* of the strings */
};

/* The steps of FAILED: in the order of enum process_step. */
enum wire_step { WIRE_STEP_CHDIR, WIRE_STEP_EXEC, WIRE_STEP_FORK };

#define WIRE_TREE_ENDED 1u /* detail of EXITED */

struct wire_event {
	uint32_t type;
	int32_t value;
	uint32_t detail;
};

#endif
