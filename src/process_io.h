/*
 * process_io: the worker's ends of one command's stdin, stdout and stderr.
 *
 * Output is read when it is there and nobody upstream waits; input is written as the command takes it. Readiness sets the event
 * `changed`; the fiber then calls process_io_pump.
 */
#ifndef PROCESS_IO_H
#define PROCESS_IO_H

#include "fiber.h"
#include "init_client.h"
#include "input.h"
#include "output.h"

struct process_io;

/*
 * Makes the pipes and stores the command's ends, which the caller owns, in stdio. input NULL: /dev/null; output NULL: what is
 * printed is dropped. All are borrowed until the close or drop. Returns 0 or an errno value.
 */
int process_io_open(struct input *input, struct output *output, struct event *changed, int stdio[3], struct process_io **ret);
/* What is printed goes there, and not to an output (process_spec.on_output). */
void process_io_set_taker(struct process_io *io, process_output_fn *take, void *arg);
void process_io_close(struct process_io *io);
/* From now on the caller's place (process_limit.h) is the io's: it goes back with the last descriptor. */
void process_io_take_place(struct process_io *io);
/*
 * As close, but reads on what background processes print, and drops it, so that they do not die of it; until they close the
 * pipes or the init is stopped.
 */
void process_io_drop(struct process_io *io, struct init *init);

enum process_io_mode {
	PROCESS_IO_READY, /* read what is known to be readable; may wait (backpressure) */
	PROCESS_IO_ALL,   /* look whether there is more; may wait */
	PROCESS_IO_REST   /* the same, never waits; at most what pipes can hold */
};

/* Moves what can be moved now. -1: as output_write; what was read is in the output all the same. */
int process_io_pump(struct process_io *io, enum process_io_mode mode, struct err *err);
/* stdout and stderr have both ended. */
bool process_io_at_end(const struct process_io *io);

#endif
