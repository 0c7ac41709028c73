/* random: numbers that are the same in every run (xorshift64*), for tests with many made-up inputs. */
#ifndef TESTS_RANDOM_H
#define TESTS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
	uint64_t state; /* not 0 */
};

static inline uint64_t random_next(struct random *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * UINT64_C(2685821657736338717);
}

/* 0 … limit - 1 */
static inline size_t random_below(struct random *r, size_t limit)
{
	return (size_t)((random_next(r) >> 16) % limit);
}

#endif
