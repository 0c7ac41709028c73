/* wire: fake-plugin, Config. Parsed in every call and never refused. */
#include "fake.h"

#include <string.h>

#define DEFAULT_IMAGE "fake:latest"
#define DEFAULT_TIMEOUT_MS 300000

/* What JavaScript's trim() takes away. */
static const char *const js_spaces[] = {
	"\t",       "\n",       "\v",       "\f",       "\r",       " ",        u8"\u00a0", u8"\u1680", u8"\u2000",
	u8"\u2001", u8"\u2002", u8"\u2003", u8"\u2004", u8"\u2005", u8"\u2006", u8"\u2007", u8"\u2008", u8"\u2009",
	u8"\u200a", u8"\u2028", u8"\u2029", u8"\u202f", u8"\u205f", u8"\u3000", u8"\ufeff",
};

/* The length of the space that the text starts with, or, if at_end, ends with; 0: there is none. */
static size_t js_space_length(const char *text, size_t len, bool at_end)
{
	for (size_t i = 0; i < sizeof js_spaces / sizeof js_spaces[0]; i++) {
		size_t n = strlen(js_spaces[i]);
		if (n <= len && memcmp(at_end ? text + len - n : text, js_spaces[i], n) == 0)
			return n;
	}
	return 0;
}

static json_t *trimmed_or_null(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);
	size_t n;

	if (!text)
		return NULL;
	while ((n = js_space_length(text, len, false)) > 0) {
		text += n;
		len -= n;
	}
	while ((n = js_space_length(text, len, true)) > 0)
		len -= n;
	return len > 0 ? json_stringn(text, len) : NULL;
}

void fake_config_parse(const json_t *config, struct fake_config *ret)
{
	json_t *timeout = json_object_get(config, "timeoutMs");
	json_t *image = trimmed_or_null(json_object_get(config, "image"));

	*ret = (struct fake_config){
		.image = image ? image : json_string(DEFAULT_IMAGE),
		.timeout = json_is_number(timeout) ? json_incref(timeout) : json_integer(DEFAULT_TIMEOUT_MS),
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
	};
}

void fake_config_deinit(struct fake_config *c)
{
	if (!c)
		return;
	json_decref(c->image);
	json_decref(c->timeout);
	*c = (struct fake_config){0};
}

json_t *fake_config_normalized(const struct fake_config *c)
{
	return json_pack("{s:O, s:O, s:b}", "image", c->image, "timeoutMs", c->timeout, "reuseLease", c->reuse_lease);
}
