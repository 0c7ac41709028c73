#include "base/str.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool str_eq(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_nonempty(const char *s)
{
	return s && *s;
}

void strv_deinit(struct strv *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct strv){0};
}

void strv_take(struct strv *v, char *s)
{
	/* The capacity is the power of two at or above count + 1, so it need not be stored. */
	if ((v->count & (v->count + 1)) == 0)
		v->items = xrealloc(v->items, 2 * (v->count + 1) * sizeof(*v->items));
	v->items[v->count++] = s;
	v->items[v->count] = NULL;
}

void strv_add(struct strv *v, const char *s)
{
	strv_take(v, xstrdup(s));
}

void strv_add_all(struct strv *v, ...)
{
	va_list ap;

	va_start(ap, v);
	for (const char *s = va_arg(ap, const char *); s; s = va_arg(ap, const char *))
		strv_add(v, s);
	va_end(ap);
}

void strv_addf(struct strv *v, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	strv_take(v, xvasprintf(format, ap));
	va_end(ap);
}

char *const *strv_list(const struct strv *v)
{
	static char *const none[] = {NULL};

	return v->items ? v->items : none;
}
