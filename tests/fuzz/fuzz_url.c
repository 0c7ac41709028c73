/* A parsed URL, written and parsed again, stays the same; JavaScript's trim and numbers take any text. */
#include "fuzz.h"

#include "protocol/js_value.h"
#include "protocol/url.h"

#include <string.h>

static void check_parsed(const struct url *u)
{
	char *target = url_target(u), *again_target;
	struct url again;

	for (const char *c = target; *c; c++)
		REQUIRE((unsigned char)*c >= ' ' && (unsigned char)*c < 0x7F);
	/* Opaque paths and hosts keep what they are given: only what a request can go to is compared. */
	if (strncmp(u->scheme, "http", 4) == 0 && (u->scheme[4] == '\0' || strcmp(u->scheme + 4, "s") == 0)) {
		REQUIRE(u->host && *u->host && u->path[0] == '/');
		REQUIRE(url_parse(target, &again, NULL) == 0);
		again_target = url_target(&again);
		REQUIRE(strcmp(target, again_target) == 0 && url_same_origin(u, &again));
		free(again_target);
		url_deinit(&again);
	}
	free(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct buf encoded = BUF_INIT(BUF_UNBOUNDED), decoded = BUF_INIT(BUF_UNBOUNDED);
	struct url u;
	size_t len;

	memcpy(text, data, size);
	text[size] = '\0';
	if (url_parse(text, &u, NULL) == 0)
		check_parsed(&u);
	url_deinit(&u);
	url_encode_component(&encoded, text);
	url_percent_decode(&decoded, encoded.data ? encoded.data : "", encoded.len);
	REQUIRE(decoded.len == strlen(text) && (decoded.len == 0 || memcmp(decoded.data, text, decoded.len) == 0));
	buf_deinit(&encoded);
	buf_deinit(&decoded);
	js_trim(text, size, &len);
	REQUIRE(len <= size);
	js_string_number(text, size);
	free(text);
	return 0;
}
