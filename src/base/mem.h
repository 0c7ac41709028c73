/*
 * mem: memory that is there or ends the program.
 *
 * Small allocations cannot be refused in a way that a request could answer: they abort with a message on stderr. What a
 * peer can make big has a ceiling of its own (see buf.h) and fails as an error of that one request, long before memory ends.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>

/* As malloc, calloc, realloc, strdup and strndup, but never NULL: on failure they print "out of memory" and abort. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
/* s may hold NUL bytes; the copy has one more at its end. */
char *xmemdup0(const void *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
char *xvasprintf(const char *format, va_list ap) __attribute__((format(printf, 1, 0), malloc, returns_nonnull));

/* Overwrites secrets before their memory is given back; not optimised away. p may be NULL. */
void mem_wipe(void *p, size_t size);
/* Wipes a C string and frees it. s may be NULL. */
void str_wipe_free(char *s);

#endif
