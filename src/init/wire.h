/*
 * wire: what the worker and an init say to each other.
 *
 * They share an AF_UNIX pair of type SOCK_SEQPACKET: one packet is one message, there is nothing to frame and nothing comes in
 * halves. So an init and all its supervisors may write to the same socket without a lock: the kernel queues each packet whole
 * or refuses it. Both ends come out of one build and run on one machine: the structs travel as they lie in memory.
 *
 *	worker -> init   SPAWN, SIGNAL; the end of the socket means: kill everything and exit
 *	init -> worker   READY, once
 *	                 for each SPAWN either FAILED, or EXITED and then, at the latest when the tree is empty, the flag
 *	                 WIRE_TREE_ENDED with it or as ENDED of its own; LOST instead of what is missing if the
 *	                 supervisor was killed
 */
#ifndef INIT_WIRE_H
#define INIT_WIRE_H

#include <stdint.h>

enum wire_type {
	WIRE_SPAWN = 1, /* struct wire_spawn and strings; descriptors: stdin, stdout, stderr and perhaps a memfd */
	WIRE_SIGNAL,    /* struct wire_signal */
	WIRE_READY,     /* the rest: struct wire_event */
	WIRE_FAILED,    /* not started: value is the errno, detail the step; there is no tree */
	WIRE_EXITED,    /* the command itself has ended: value is the wait status */
	WIRE_ENDED,     /* no process of the tree is left */
	WIRE_LOST       /* the supervisor was killed; what was left of the tree has been killed too */
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
	uint64_t id; /* chosen by the worker, never used twice */
	uint32_t argc;
	uint32_t envc;
	uint64_t size; /* of the strings */
};

struct wire_signal {
	uint32_t type;
	int32_t signo; /* SIGTERM, SIGKILL… (standard signals only); goes to the command's whole tree */
	uint64_t id;   /* one whose tree has ended is ignored */
};

/* The steps of FAILED: in the order of enum process_step. */
enum wire_step { WIRE_STEP_CHDIR, WIRE_STEP_EXEC, WIRE_STEP_FORK };

#define WIRE_TREE_ENDED 1u /* detail of EXITED */

struct wire_event {
	uint32_t type;
	int32_t value;
	uint64_t id;
	uint32_t detail;
	uint32_t unused; /* no padding: no byte of a packet is undefined */
};

#endif
