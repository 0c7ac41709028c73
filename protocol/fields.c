#include "protocol/fields.h"

#include <string.h>

static int read_field(const json_t *value, const struct field *field, const char *where, char *target, struct err *err)
{
	void *at = target + field->offset;

	switch (field->type) {
	case FIELD_STRING:
		if (!json_is_string(value))
			return err_set(err, ERR_INVALID, "%s.%s must be a string", where, field->name);
		if (strlen(json_string_value(value)) != json_string_length(value))
			return err_set(err, ERR_INVALID, "%s.%s must be a string without null bytes", where, field->name);
		*(const char **)at = json_string_value(value);
		break;
	case FIELD_OBJECT:
		if (!json_is_object(value))
			return err_set(err, ERR_INVALID, "%s.%s must be an object", where, field->name);
		*(const json_t **)at = value;
		break;
	case FIELD_ARRAY:
		if (!json_is_array(value))
			return err_set(err, ERR_INVALID, "%s.%s must be an array", where, field->name);
		*(const json_t **)at = value;
		break;
	case FIELD_FLAG:
		*(bool *)at = json_is_true(value);
		break;
	case FIELD_NUMBER:
		if (json_is_number(value))
			*(double *)at = json_number_value(value);
		break;
	}
	return 0;
}

int fields_read(const json_t *object, const struct field *table, const char *where, void *target, struct err *err)
{
	for (const struct field *field = table; field->name; field++) {
		const json_t *value = json_object_get(object, field->name);

		if (value && !json_is_null(value)) {
			if (read_field(value, field, where, target, err) < 0)
				return -1;
		} else if (field->required) {
			return err_set(err, ERR_INVALID, "%s.%s is required", where, field->name);
		}
	}
	return 0;
}
