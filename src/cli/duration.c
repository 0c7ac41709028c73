#include "cli/duration.h"

#include <stdlib.h>
#include <string.h>

bool duration_parse(const char *text, int64_t *ret_ms)
{
	static const struct {
		const char *suffix;
		double ms;
	} units[] = {{"", 1e3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}};
	size_t digits = strspn(text, "0123456789.");
	char *end;

	if (digits == 0)
		return false;
	double number = strtod(text, &end);

	if (end != text + digits)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].suffix) != 0)
			continue;
		double ms = number * units[i].ms;

		if (ms > INT32_MAX)
			return false;
		*ret_ms = ms > 0 && ms < 1 ? 1 : (int64_t)ms;
		return true;
	}
	return false;
}
