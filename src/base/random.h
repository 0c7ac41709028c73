/*
 * random: what nobody can guess, from the kernel.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>

/* n: at most 256, which the kernel gives whole. */
void random_bytes(void *out, size_t n);
/* A UUID (RFC 9562, version 4) in lower case, 36 characters; owned. */
char *random_uuid(void);

#endif
