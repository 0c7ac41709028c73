#include "protocol/json_number.h"

#include "base/cleanup.h"
#include "base/mem.h"

#include <errno.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX 9007199254740992.0 /* 2^53 */

/* strtod of the C locale. (The C locale's object is static in glibc: nothing to free, no failure.) */
static double parse(const char *text)
{
	return strtod_l(text, NULL, newlocale(LC_ALL_MASK, "C", (locale_t)0));
}

static json_t *read_terminated(const char *text, size_t len)
{
	bool integer = strcspn(text, ".eE") == len && strcmp(text, "-0") != 0;
	double value;

	if (integer) {
		errno = 0;
		long long whole = strtoll(text, NULL, 10);

		if (errno == 0)
			return json_integer(whole);
	}
	value = parse(text);
	if (isinf(value))
		value = value < 0 ? -DBL_MAX : DBL_MAX;
	if (fabs(value) <= EXACT_MAX && value == (double)(json_int_t)value && !(value == 0 && signbit(value)))
		return json_integer((json_int_t)value);
	return json_real(value);
}

json_t *json_number_read(const char *text, size_t len)
{
	char near[64];

	if (len < sizeof(near)) {
		memcpy(near, text, len);
		near[len] = '\0';
		return read_terminated(near, len);
	}
	cleanup_free char *copy = xmemdup0(text, len);
	return read_terminated(copy, len);
}

/* The value of 0.DIGITS x 10^n. */
static double decimal_value(const char *digits, int n)
{
	char text[40];

	snprintf(text, sizeof(text), "%se%d", digits, n - (int)strlen(digits));
	return parse(text);
}

/* Adds one to the last digit. */
static void increment(char *digits, int *n)
{
	size_t i = strlen(digits);

	while (i > 0 && digits[i - 1] == '9')
		digits[--i] = '0';
	if (i > 0) {
		digits[i - 1]++;
	} else {
		digits[0] = '1';
		++*n;
	}
}

/* value > 0 with that many significant digits: value = 0.DIGITS x 10^n. Whether they read back as the same double. */
static bool shorten(double value, int precision, char digits[20], int *ret_n)
{
	char text[40];
	size_t count = 0;
	const char *e;

	snprintf(text, sizeof(text), "%.*e", precision - 1, value);
	e = strchr(text, 'e');
	/* The decimal point is the locale's, of any length: only digits are taken. */
	for (const char *p = text; p < e; p++) {
		if (*p >= '0' && *p <= '9')
			digits[count++] = *p;
	}
	digits[count] = '\0';
	*ret_n = (int)strtol(e + 1, NULL, 10) + 1;
	if (decimal_value(digits, *ret_n) == value)
		return true;
	/* Doubles lie closer below a power of two than above: the next decimal up may do where the nearest, below, does not. */
	increment(digits, ret_n);
	return decimal_value(digits, *ret_n) == value;
}

static void shortest(double value, char digits[20], int *ret_n)
{
	/* Fifteen digits survive the way to a normal double and back; subnormal ones hold fewer. */
	int precision = value < DBL_MIN ? 1 : DBL_DIG;

	while (!shorten(value, precision, digits, ret_n))
		precision++;
	for (size_t i = strlen(digits); i > 1 && digits[i - 1] == '0'; i--)
		digits[i - 1] = '\0';
}

/* ECMA-262, Number::toString. */
size_t json_number_write(char out[JSON_NUMBER_MAX], double value)
{
	char digits[20];
	const char *sign = value < 0 ? "-" : "";
	int n, k, length;

	if (!isfinite(value) || value == 0)
		return (size_t)snprintf(out, JSON_NUMBER_MAX, "%s", isfinite(value) ? "0" : "null");
	shortest(fabs(value), digits, &n);
	k = (int)strlen(digits);
	if (k <= n && n <= 21)
		length = snprintf(out, JSON_NUMBER_MAX, "%s%s%.*s", sign, digits, n - k, "00000000000000000000");
	else if (0 < n && n < k)
		length = snprintf(out, JSON_NUMBER_MAX, "%s%.*s.%s", sign, n, digits, digits + n);
	else if (-6 < n && n <= 0)
		length = snprintf(out, JSON_NUMBER_MAX, "%s0.%.*s%s", sign, -n, "00000", digits);
	else
		length = snprintf(out, JSON_NUMBER_MAX, "%s%.1s%s%se%c%d", sign, digits, k > 1 ? "." : "", digits + 1,
				  n > 0 ? '+' : '-', abs(n - 1));
	return (size_t)length;
}
