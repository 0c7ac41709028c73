/*
 * process_limit: how many commands this process runs at once. Each needs a few descriptors, so their limit (RLIMIT_NOFILE) sets
 * the number; the others wait in line, first come, first served.
 */
#ifndef PROCESS_LIMIT_H
#define PROCESS_LIMIT_H

#include "base/err.h"

#include <sys/resource.h>

/*
 * Raises the soft limit of descriptors to the hard one, at the first call. Returns what it was before: commands are to have
 * that, since a program that uses select() cannot have more than 1024.
 */
const struct rlimit *process_limit_raise(void);

/* Waits for a place. -1: cancelled, or the deadline passed. */
int process_limit_take(struct err *err);
void process_limit_give(void);
/*
 * For one with a place that found no descriptor left all the same: waits until another command has ended. -1: as above, or
 * ERR_BUSY if there is no other.
 */
int process_limit_wait(struct err *err);

#endif
