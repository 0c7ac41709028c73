/* duration: "90", "90s", "1.5m", "2h", "1d", "250ms", as timeout(1) takes them, and milliseconds besides. */
#ifndef CLI_DURATION_H
#define CLI_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* False: it is none, is negative or above 2,147,483,647 ms, which is the most that the host takes too. */
bool duration_parse(const char *text, int64_t *ret_ms);

#endif
