/* loop: runs a test's function in a fiber on a loop of its own, and checks that nothing is left afterwards. */
#ifndef TESTS_LOOP_H
#define TESTS_LOOP_H

#include "fiber.h"

/* Returns when fn and all that it started have ended; a handle or fiber that is left is a failed check. */
void run_in_loop(fiber_fn *fn, void *arg);

#endif
