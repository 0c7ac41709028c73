/*
 * live_output: a command's bytes to our stdout and stderr as they come, with backpressure: while a reader of ours (a pager, a slow
 * terminal) does not take them, the command is not read, and everything else, Ctrl-C above all, goes on.
 */
#ifndef CLI_LIVE_OUTPUT_H
#define CLI_LIVE_OUTPUT_H

#include "fiber.h"
#include "output_internal.h"

struct live_output;

/* on_broken: stdout can't be written any more (number: an errno value; EPIPE if its reader has gone). Once, from any place. */
struct live_output *live_output_create(void (*on_broken)(void *arg, int number), void *arg);
/* The writers must have ended: live_output_finish comes first. Gives the descriptors back as they were. */
void live_output_destroy(struct live_output *live);
/* For output_create. */
struct output_sink live_output_sink(struct live_output *live);
/* Waits until everything is written; once cancelled, or with drop, for a moment only. Then ends the writers. */
void live_output_finish(struct live_output *live, bool drop);

/*
 * A descriptor that may become non-blocking: the description behind ours may be shared with a shell, so pipes and terminals are
 * opened again. -1: that can't be done (or need not be, for files). Owned.
 */
int descriptor_of_our_own(int fd, int access);

#endif
