#include "base/err.h"
#include "base/mem.h"
#include "log.h"
#include "secret.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

static void check_masked(const char *text, const char *want)
{
	char *masked = xstrdup(text);

	secret_mask_string(&masked);
	CHECK_STR(masked, want);
	free(masked);
}

TEST(a_held_value_is_masked_wherever_it_stands)
{
	struct secret *s = secret_hold("e2b_0123456789");

	check_masked("e2b_0123456789", "***");
	check_masked("key e2b_0123456789 is wrong (e2b_0123456789)", "key *** is wrong (***)");
	check_masked("e2b_0123456789e2b_0123456789", "******");
	check_masked("e2b_012345678", "e2b_012345678");
	check_masked("e2b_0e2b_0123456789", "e2b_0***");
	check_masked("", "");
	check_masked("short", "short");
	secret_release(s);
	secret_forget();
	check_masked("key e2b_0123456789", "key e2b_0123456789");
}

TEST(a_value_is_masked_until_its_last_release_and_for_a_while_after)
{
	struct secret *one = secret_hold("hunter22"), *two = secret_hold("hunter22");
	char other[32];

	CHECK(one == two);
	secret_release(one);
	secret_forget();
	check_masked("hunter22", "***");
	secret_release(two);
	check_masked("hunter22", "***");
	for (int i = 0; i < 300; i++) {
		snprintf(other, sizeof(other), "other-secret-%d.", i);
		secret_release(secret_hold(other));
	}
	check_masked("hunter22 other-secret-299. other-secret-0.", "hunter22 *** other-secret-0.");
	secret_forget();
}

TEST(a_value_that_is_held_again_outlives_others)
{
	struct secret *s = secret_hold("hunter22");

	secret_release(s);
	s = secret_hold("hunter22");
	secret_forget();
	check_masked("hunter22", "***");
	secret_release(s);
	secret_forget();
}

TEST(short_values_are_not_masked)
{
	CHECK(!secret_hold(NULL) && !secret_hold("") && !secret_hold("12345"));
	secret_release(NULL);
	check_masked("12345", "12345");
}

TEST(the_longest_of_overlapping_values_counts)
{
	struct secret *a = secret_hold("secret-key"), *b = secret_hold("secret-key-long"), *c = secret_hold("secret");

	check_masked("secret-key-long secret-key-lo secret-", "*** ***-lo ***-");
	secret_release(a);
	secret_release(b);
	secret_release(c);
	secret_forget();
}

TEST(encoded_and_escaped_forms_are_masked_too)
{
	struct secret *s = secret_hold("p\"a/s s&\\w\xC3\xB6rd");

	check_masked("https://h/?t=p%22a%2Fs%20s%26%5Cw%C3%B6rd&x", "https://h/?t=***&x");
	check_masked("{\"t\":\"p\\\"a/s s&\\\\w\xC3\xB6rd\"}", "{\"t\":\"***\"}");
	secret_release(s);
	secret_forget();
}

TEST(each_line_of_a_long_key_is_masked)
{
	struct secret *s = secret_hold("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\r\nBG5vbmUAAAAEbm9uZQAAAAAA\nshort=\n"
				       "-----END OPENSSH PRIVATE KEY-----\n");

	check_masked("line 2: BG5vbmUAAAAEbm9uZQAAAAAA; -----BEGIN OPENSSH PRIVATE KEY-----; short=",
		     "line 2: ***; -----BEGIN OPENSSH PRIVATE KEY-----; short=");
	secret_release(s);
	secret_forget();
}

TEST(json_is_masked_in_a_copy_at_any_level)
{
	struct secret *s = secret_hold("token-1234");
	cleanup_json json_t *value = json_pack("{s:s, s:[{s:s}, i], s:s#}", "a", "token-1234", "b", "c", "x token-1234 y", 5, "nul", "a\0token-1234", 12);
	cleanup_json json_t *clean = json_pack("{s:s}", "a", "nothing");
	cleanup_json json_t *masked = secret_masked_json(value), *same = secret_masked_json(clean);
	cleanup_json json_t *want = json_pack("{s:s, s:[{s:s}, i], s:s#}", "a", "***", "b", "c", "x *** y", 5, "nul", "a\0***", 5);

	CHECK(json_equal(masked, want));
	CHECK_STR(json_string_value(json_object_get(value, "a")), "token-1234");
	CHECK(same == clean);
	CHECK(!secret_masked_json(NULL));
	secret_release(s);
	secret_forget();
}

TEST(a_configs_secrets_are_held_by_their_keys)
{
	struct secret_set set = {0};
	cleanup_json json_t *keys = json_pack("[s, s]", "apiKey", "keys");
	cleanup_json json_t *config = json_pack("{s:s, s:s, s:{s:s}, s:[s, {s:s}], s:i}", "apiKey", "key-in-config", "image", "node:20-slim", "nested",
						"apiKey", "key-nested", "keys", "key-in-list", "x", "key-deep", "timeoutMs", 300000);

	secret_set_hold_config(&set, config, keys);
	secret_set_hold(&set, "token-of-service");
	secret_set_hold(&set, NULL);
	check_masked("key-in-config key-nested key-in-list key-deep token-of-service node:20-slim", "*** *** *** *** *** node:20-slim");
	secret_set_deinit(&set);
	secret_forget();
	check_masked("key-in-config", "key-in-config");
}

TEST(thousands_of_secrets_are_found_in_one_pass)
{
	struct secret_set set = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED), masked = BUF_INIT(BUF_UNBOUNDED);
	char value[32];

	for (int i = 0; i < 3000; i++) {
		snprintf(value, sizeof(value), "%08d-token", i * 7919);
		secret_set_hold(&set, value);
		buf_printf(&text, "%s ", value);
	}
	CHECK(secret_mask(text.data, text.len, &masked));
	CHECK_INT(masked.len, 3000 * 4);
	secret_set_deinit(&set);
	secret_forget();
}

static void note_line(void *arg, enum log_level level, const char *message, const json_t *meta, const char *invocation_id)
{
	cleanup_free char *text = json_dumps(meta, JSON_COMPACT);

	buf_printf(arg, "%s %s", message, text);
}

TEST(log_lines_and_their_meta_are_masked)
{
	struct secret *s = secret_hold("token-1234");
	cleanup_buf struct buf lines = BUF_INIT(BUF_UNBOUNDED);

	log_set_sink(note_line, &lines);
	log_write(LOG_LEVEL_WARN, json_pack("{s:s}", "url", "wss://h/token-1234"), "failed with %s", "token-1234");
	log_set_sink(NULL, NULL);
	CHECK_STR(lines.data, "failed with *** {\"url\":\"wss://h/***\"}");
	secret_release(s);
	secret_forget();
}

TEST_MAIN()
