#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p)
{
	if (!p) {
		fputs("paperclip-sandbox-worker: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *xmalloc(size_t size)
{
	return checked(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
	return checked(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return checked(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return checked(strndup(s, n));
}

char *xmemdup0(const void *s, size_t n)
{
	char *copy = xmalloc(n + 1);

	if (n)
		memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

char *xvasprintf(const char *format, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	return checked(text);
}

char *xasprintf(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	char *text = xvasprintf(format, ap);
	va_end(ap);
	return text;
}

void mem_wipe(void *p, size_t size)
{
	if (p)
		explicit_bzero(p, size);
}

void str_wipe_free(char *s)
{
	if (!s)
		return;
	mem_wipe(s, strlen(s));
	free(s);
}
