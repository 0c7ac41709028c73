/*
 * fields: table-driven decoding of a JSON object's members into a struct. The table is the documentation of the method.
 *
 * A member that is absent or null leaves the target as it is, unless it is required. Unknown members are ignored (host contract,
 * "Messages"). Strings with a NUL inside are refused: no value of ours may hold one. Strings and values are borrowed from the object.
 */
#ifndef PROTOCOL_FIELDS_H
#define PROTOCOL_FIELDS_H

#include "base/err.h"

#include <stddef.h>

enum field_type {
	FIELD_STRING, /* const char * */
	FIELD_OBJECT, /* const json_t * */
	FIELD_ARRAY,  /* const json_t * */
	FIELD_FLAG,   /* bool: true only for JSON true; any other value is false, as in the reference */
	FIELD_NUMBER, /* double; a value of another type leaves it as it is, as in the reference */
};

struct field {
	const char *name;
	enum field_type type;
	size_t offset;
	bool required;
};

/* name NULL ends the table. -1: ERR_INVALID, `<where>.<name> must be a string` and the like. */
int fields_read(const json_t *object, const struct field *table, const char *where, void *target, struct err *err);

#endif
