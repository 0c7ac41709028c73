/*
 * tap: tests in plain C that print TAP 13 (meson reads it: `protocol: 'tap'`).
 *
 *	TEST(split_anywhere_gives_the_same_lines) { CHECK(…); CHECK_STR(got, "want"); }
 *	TEST_MAIN()
 *
 * A failed check is recorded and the test goes on: nothing jumps out of a fiber or a library's callback. Tests are named for the
 * behaviour that they show and run in the order of the file.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap_test {
	const char *name;
	void (*run)(void);
	struct tap_test *next;
};

void tap_register(struct tap_test *test);
void tap_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The present test counts as skipped, for this reason. */
void tap_skip(const char *reason);
void tap_check_str(const char *file, int line, const char *got, const char *want);
void tap_check_mem(const char *file, int line, const void *got, size_t got_len, const void *want, size_t want_len);
void tap_check_int(const char *file, int line, intmax_t got, intmax_t want);
/* Runs the tests (those whose names contain argv[1], if given) and returns the exit status. */
int tap_main(int argc, char **argv);

#define TEST(name_) \
	static void name_(void); \
	__attribute__((constructor)) static void register_##name_(void) \
	{ \
		static struct tap_test test = {.name = #name_, .run = name_}; \
		tap_register(&test); \
	} \
	static void name_(void)

#define CHECK(condition) ((condition) ? (void)0 : tap_fail(__FILE__, __LINE__, "%s", #condition))
#define CHECK_STR(got, want) tap_check_str(__FILE__, __LINE__, got, want)
#define CHECK_MEM(got, got_len, want, want_len) tap_check_mem(__FILE__, __LINE__, got, got_len, want, want_len)
#define CHECK_INT(got, want) tap_check_int(__FILE__, __LINE__, (intmax_t)(got), (intmax_t)(want))

#define TEST_MAIN() \
	int main(int argc, char **argv) \
	{ \
		return tap_main(argc, argv); \
	}

#endif
