#include "protocol/mask.h"

#include "base/str.h"

static bool is_secret(const char *key, const json_t *secret_keys)
{
	const json_t *name;
	size_t i;

	json_array_foreach(secret_keys, i, name)
		if (str_eq(key, json_string_value(name)))
			return true;
	return false;
}

static void mask(json_t *value, const json_t *secret_keys, bool all)
{
	const char *key;
	json_t *member;
	size_t i;

	json_object_foreach(value, key, member) {
		bool secret = all || is_secret(key, secret_keys);

		if (secret && json_is_string(member))
			json_string_set(member, "***");
		else
			mask(member, secret_keys, secret || str_eq(key, "env"));
	}
	json_array_foreach(value, i, member)
		mask(member, secret_keys, all);
}

void mask_secrets(json_t *value, const json_t *secret_keys)
{
	mask(value, secret_keys, false);
}
