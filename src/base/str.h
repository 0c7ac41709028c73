/* str: small helpers on C strings, and vectors of them (argv, envp). */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

/* Equal; NULL equals only NULL. */
bool str_eq(const char *a, const char *b);
bool str_starts_with(const char *s, const char *prefix);
bool str_ends_with(const char *s, const char *suffix);
/* Neither NULL nor "". */
bool str_nonempty(const char *s);

/* A growing, NULL-terminated vector of owned strings. Zeroed is empty. */
struct strv {
	char **items; /* items[count] is NULL; NULL while empty */
	size_t count;
};

void strv_deinit(struct strv *v);
/* Appends a copy. */
void strv_add(struct strv *v, const char *s);
/* Appends copies of all of them, up to the NULL that ends the arguments. */
void strv_add_all(struct strv *v, ...) __attribute__((sentinel));
void strv_addf(struct strv *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends s itself, which the vector owns from now on. */
void strv_take(struct strv *v, char *s);
/* The items, never NULL: an empty vector gives an empty list. Borrowed. */
char *const *strv_list(const struct strv *v);

#define cleanup_strv cleanup(strv_deinit)

#endif
