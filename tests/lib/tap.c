#include "tap.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct tap_test *first, **last = &first;
static bool failed;
static const char *skipped;

void tap_register(struct tap_test *test)
{
	*last = test;
	last = &test->next;
}

void tap_fail(const char *file, int line, const char *format, ...)
{
	va_list ap;

	failed = true;
	printf("# %s:%d: ", file, line);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

void tap_skip(const char *reason)
{
	skipped = reason;
}

void tap_check_str(const char *file, int line, const char *got, const char *want)
{
	if (!got || !want ? got != want : strcmp(got, want) != 0)
		tap_fail(file, line, "got <%s>, want <%s>", got ? got : "NULL", want ? want : "NULL");
}

void tap_check_mem(const char *file, int line, const void *got, size_t got_len, const void *want, size_t want_len)
{
	if (got_len != want_len || (got_len && memcmp(got, want, got_len) != 0))
		tap_fail(file, line, "got %zu bytes <%.*s>, want %zu bytes <%.*s>", got_len, (int)(got_len > 200 ? 200 : got_len),
			 got_len ? (const char *)got : "", want_len, (int)(want_len > 200 ? 200 : want_len),
			 want_len ? (const char *)want : "");
}

void tap_check_int(const char *file, int line, intmax_t got, intmax_t want)
{
	if (got != want)
		tap_fail(file, line, "got %jd, want %jd", got, want);
}

int tap_main(int argc, char **argv)
{
	const char *filter = argc > 1 ? argv[1] : "";
	int number = 0, failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("TAP version 13");
	for (struct tap_test *test = first; test; test = test->next) {
		if (!strstr(test->name, filter))
			continue;
		failed = false;
		skipped = NULL;
		test->run();
		failures += failed;
		printf("%s %d - %s%s%s\n", failed ? "not ok" : "ok", ++number, test->name, skipped && !failed ? " # SKIP " : "",
		       skipped && !failed ? skipped : "");
	}
	printf("1..%d\n", number);
	return failures != 0;
}
