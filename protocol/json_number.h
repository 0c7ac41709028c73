/*
 * json_number: doubles from and to JSON text as JavaScript reads and writes them, whatever the process's locale is.
 */
#ifndef PROTOCOL_JSON_NUMBER_H
#define PROTOCOL_JSON_NUMBER_H

#include <jansson.h>
#include <stddef.h>

/* Room for any double and its NUL: "-1.2345678901234567e-308" is the longest. */
#define JSON_NUMBER_MAX 32

/*
 * A JSON number as a new value: an integer where it is a whole number that fits (64 bits, or 2^53 when written with a fraction or
 * an exponent: JavaScript has but one kind of number), else a real; above the largest finite double, that one. -0 is a real.
 */
json_t *json_number_read(const char *text, size_t len);
/*
 * As JavaScript's String(value): the fewest digits that read back as the same double. Not finite: "null", as JSON.stringify has it.
 * Returns the length.
 */
size_t json_number_write(char out[JSON_NUMBER_MAX], double value);

#endif
