#include "cli/replay_compare.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <string.h>

/* Shorter texts are too common to be replaced wherever they stand. */
#define NAME_BYTES_MIN 8
#define SHOWN_BYTES_MAX 160

/* --- made-up parts of a text --- */

/* In patterns: x a hexadecimal digit, 0 a digit, everything else itself. */
static bool matches(const char *text, const char *pattern)
{
	for (; *pattern; text++, pattern++) {
		unsigned char c = (unsigned char)*text;

		if (*pattern == 'x' ? !isxdigit(c) : *pattern == '0' ? !isdigit(c) : c != (unsigned char)*pattern)
			return false;
	}
	return true;
}

static size_t uuid_length(const char *text)
{
	static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	return matches(text, pattern) && !isalnum((unsigned char)text[sizeof(pattern) - 1]) ? sizeof(pattern) - 1 : 0;
}

static size_t time_length(const char *text)
{
	static const char pattern[] = "0000-00-00T00:00:00";
	size_t n = sizeof(pattern) - 1;

	if (!matches(text, pattern))
		return 0;
	if (text[n] == '.')
		n += 1 + strspn(text + n + 1, "0123456789");
	return text[n] == 'Z' ? n + 1 : 0;
}

/*
 * A run of letters and digits that no person wrote: six or more, both kinds. In a path also mkdtemp's six, at a component's end.
 */
static size_t token_length(const char *text, bool in_path, char before)
{
	size_t n = 0, digits = 0;

	for (; isalnum((unsigned char)text[n]); n++)
		digits += isdigit((unsigned char)text[n]) != 0;
	if (n >= 6 && digits && digits < n)
		return n;
	return in_path && n == 6 && (text[n] == '/' || !text[n]) && (before == '-' || before == '.' || before == '_') ? n : 0;
}

/* printed: by a command, whose sums and hashes are no ids of ours. */
static char *without_made_up_parts(const char *text, bool printed)
{
	struct buf plain = BUF_INIT(BUF_UNBOUNDED);
	bool in_path = *text == '/';
	char before = 0;

	while (*text) {
		bool starts_word = !isalnum((unsigned char)before);
		size_t uuid = starts_word ? uuid_length(text) : 0;
		size_t time = starts_word && !uuid ? time_length(text) : 0;
		size_t token = starts_word && !uuid && !time && !printed ? token_length(text, in_path, before) : 0;
		size_t n = uuid + time + token;

		if (n)
			buf_append_char(&plain, uuid ? '\1' : time ? '\2' : '\3');
		else
			buf_append_char(&plain, *text);
		before = text[n ? n - 1 : 0];
		text += n ? n : 1;
	}
	return buf_steal(&plain);
}

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool same_plain(const char *a, const char *b, bool printed, bool must_have_token)
{
	cleanup_free char *plain_a = without_made_up_parts(a, printed), *plain_b = without_made_up_parts(b, printed);

	return strcmp(plain_a, plain_b) == 0 && (!must_have_token || strchr(plain_a, '\3'));
}

/* Equal but for made-up parts. Of a directory with a made-up name it may also differ where it lies. */
static bool same_but_made_up(const char *a, const char *b, bool printed)
{
	if (same_plain(a, b, printed, false))
		return true;
	if (printed || *a != '/' || *b != '/')
		return false;
	cleanup_free char *at_root_a = xasprintf("/%s", last_component(a)), *at_root_b = xasprintf("/%s", last_component(b));

	return same_plain(at_root_a, at_root_b, false, true);
}

/* --- names --- */

void replay_names_init(struct replay_names *names)
{
	names->now = json_object();
}

void replay_names_deinit(struct replay_names *names)
{
	json_decref(names->now);
}

/* The text with today's names: longer ones first, since one may be part of another. */
static char *apply_to_text(const struct replay_names *names, const char *text)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	while (*text) {
		const char *old, *best = NULL;
		size_t best_len = 0;
		json_t *now;

		json_object_foreach(names->now, old, now) {
			size_t n = strlen(old);

			if (n > best_len && strncmp(text, old, n) == 0) {
				best = json_string_value(now);
				best_len = n;
			}
		}
		if (best)
			buf_append_str(&out, best);
		else
			buf_append_char(&out, *text);
		text += best ? best_len : 1;
	}
	return buf_steal(&out);
}

json_t *replay_names_apply(const struct replay_names *names, const json_t *recorded)
{
	json_t *value = (json_t *)(uintptr_t)recorded, *copy, *member;
	const char *key;
	size_t i;

	if (json_is_string(recorded)) {
		/* With a NUL inside it is no name of ours. */
		if (strlen(json_string_value(recorded)) != json_string_length(recorded) || json_object_size(names->now) == 0)
			return json_incref(value);
		cleanup_free char *text = apply_to_text(names, json_string_value(recorded));

		return json_string(text);
	}
	if (json_is_array(recorded)) {
		copy = json_array();
		json_array_foreach(value, i, member)
			json_array_append_new(copy, replay_names_apply(names, member));
		return copy;
	}
	if (json_is_object(recorded)) {
		copy = json_object();
		json_object_foreach(value, key, member)
			json_object_set_new(copy, key, replay_names_apply(names, member));
		return copy;
	}
	return json_incref(value);
}

void replay_names_learn(struct replay_names *names, const json_t *recorded, const json_t *now)
{
	json_t *value = (json_t *)(uintptr_t)recorded, *member;
	const char *key;
	size_t i;

	if (json_is_object(recorded) && json_is_object(now)) {
		json_object_foreach(value, key, member)
			if (strcmp(key, "stdout") != 0 && strcmp(key, "stderr") != 0)
				replay_names_learn(names, member, json_object_get(now, key));
	} else if (json_is_array(recorded) && json_is_array(now)) {
		json_array_foreach(value, i, member)
			replay_names_learn(names, member, json_array_get(now, i));
	} else if (json_is_string(recorded) && json_is_string(now) && json_string_length(recorded) >= NAME_BYTES_MIN) {
		const char *old = json_string_value(recorded), *text = json_string_value(now);

		if (strcmp(old, text) != 0 && same_but_made_up(old, text, false))
			json_object_set_new(names->now, old, json_string(text));
	}
}

/* --- comparing --- */

/* Members whose values say how it went this time, not what was answered. */
static bool is_volatile(const char *key)
{
	static const char *const keys[] = {"pid", "durationMs", "getDurationMs", "uptimeMs", "requestsInFlight", "requestsServed"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

static char *shown(const json_t *value)
{
	cleanup_free char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : xstrdup("nothing");

	if (strlen(text) <= SHOWN_BYTES_MAX)
		return steal(&text);
	size_t n = SHOWN_BYTES_MAX;

	while (((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return xasprintf("%.*s… (%zu bytes)", (int)n, text, strlen(text));
}

static void add_difference(const char *path, const json_t *recorded, const json_t *now, struct strv *lines)
{
	cleanup_free char *before = shown(recorded), *after = shown(now);

	strv_addf(lines, "%s: recorded %s, now %s", path, before, after);
}

static void compare(const char *path, const char *key, const json_t *recorded, const json_t *now, struct strv *lines);

static void compare_objects(const char *path, const json_t *recorded, const json_t *now, struct strv *lines)
{
	json_t *member;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)recorded, key, member) {
		cleanup_free char *below = xasprintf("%s%s%s", path, *path ? "." : "", key);

		if (!is_volatile(key))
			compare(below, key, member, json_object_get(now, key), lines);
	}
	json_object_foreach((json_t *)(uintptr_t)now, key, member) {
		cleanup_free char *below = xasprintf("%s%s%s", path, *path ? "." : "", key);

		if (!is_volatile(key) && !json_object_get(recorded, key))
			add_difference(below, NULL, member, lines);
	}
}

static void compare_arrays(const char *path, const json_t *recorded, const json_t *now, struct strv *lines)
{
	size_t n = json_array_size(recorded) > json_array_size(now) ? json_array_size(recorded) : json_array_size(now);

	for (size_t i = 0; i < n; i++) {
		cleanup_free char *below = xasprintf("%s[%zu]", path, i);

		compare(below, "", json_array_get(recorded, i), json_array_get(now, i), lines);
	}
}

static bool same_text(const char *key, const json_t *recorded, const json_t *now)
{
	bool printed = strcmp(key, "stdout") == 0 || strcmp(key, "stderr") == 0;
	const char *a = json_string_value(recorded), *b = json_string_value(now);

	/* With a NUL inside they are no names: then every byte counts. */
	if (strlen(a) != json_string_length(recorded) || strlen(b) != json_string_length(now))
		return json_equal(recorded, now);
	return same_but_made_up(a, b, printed);
}

/* recorded has today's names already; key is that of the member, "" in arrays. */
static void compare(const char *path, const char *key, const json_t *recorded, const json_t *now, struct strv *lines)
{
	bool same;

	if (json_is_object(recorded) && json_is_object(now)) {
		compare_objects(path, recorded, now, lines);
		return;
	}
	if (json_is_array(recorded) && json_is_array(now)) {
		compare_arrays(path, recorded, now, lines);
		return;
	}
	if (json_is_number(recorded) && json_is_number(now))
		same = json_number_value(recorded) == json_number_value(now);
	else if (json_is_string(recorded) && json_is_string(now))
		same = same_text(key, recorded, now);
	else
		same = recorded && now && json_equal(recorded, now);
	if (!same)
		add_difference(path, recorded, now, lines);
}

void replay_compare(const struct replay_names *names, const json_t *recorded, const json_t *now, struct strv *lines)
{
	cleanup_json json_t *named = replay_names_apply(names, recorded);

	compare("", "", named, now, lines);
}
