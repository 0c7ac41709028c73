/*
 * A held value has one or more forms: itself, and as it looks in a URL or in JSON. All forms are in one table by their first six bytes,
 * so that looking for thousands of them takes one pass over the text.
 */
#include "secret.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "protocol/json_write.h"
#include "protocol/url.h"

#include <stdint.h>
#include <string.h>

#define BUCKETS 1024 /* a power of two */
#define RELEASED_MAX 256
#define LINE_LENGTH_MIN 20 /* of a key in several lines; its last line may be short */
#define MASK "***"

struct form {
	struct form *next;          /* in its bucket */
	struct secret *owner;
	char *text;                 /* owned */
	size_t len;
};

struct secret {
	struct list link;   /* in `held` or `released` */
	struct form *forms; /* owned; forms[0] is the value */
	size_t form_count;
	unsigned holds;
};

static struct form *buckets[BUCKETS];
static struct list held = LIST_INIT(held), released = LIST_INIT(released); /* released: the oldest first */
static size_t released_count;

static struct form **bucket_of(const char *text)
{
	uint64_t first = 0;

	memcpy(&first, text, SECRET_LENGTH_MIN);
	return &buckets[(first * UINT64_C(0x9E3779B97F4A7C15)) >> 54];
}

/* --- holding --- */

static void add_form(struct secret *s, const char *text, size_t len)
{
	if (len < SECRET_LENGTH_MIN)
		return;
	for (size_t i = 0; i < s->form_count; i++)
		if (s->forms[i].len == len && memcmp(s->forms[i].text, text, len) == 0)
			return;
	s->forms = xrealloc(s->forms, (s->form_count + 1) * sizeof(*s->forms));
	s->forms[s->form_count++] = (struct form){.text = xmemdup0(text, len), .len = len};
}

static void add_lines(struct secret *s, const char *value)
{
	if (!strchr(value, '\n'))
		return;
	while (*value) {
		size_t len = strcspn(value, "\r\n");

		/* Not the lines that say what kind of key it is. */
		if (len >= LINE_LENGTH_MIN && !str_starts_with(value, "-----"))
			add_form(s, value, len);
		value += len;
		value += strspn(value, "\r\n");
	}
}

static void add_forms(struct secret *s, const char *value)
{
	struct buf encoded = BUF_INIT(BUF_UNBOUNDED), escaped = BUF_INIT(BUF_UNBOUNDED);

	add_form(s, value, strlen(value));
	url_encode_component(&encoded, value);
	add_form(s, encoded.data, encoded.len);
	json_write_escaped(&escaped, value, strlen(value));
	add_form(s, escaped.data, escaped.len);
	add_lines(s, value);
	buf_wipe(&encoded);
	buf_wipe(&escaped);
}

static void link_forms(struct secret *s)
{
	for (size_t i = 0; i < s->form_count; i++) {
		struct form **bucket = bucket_of(s->forms[i].text);

		s->forms[i].owner = s;
		s->forms[i].next = *bucket;
		*bucket = &s->forms[i];
	}
}

static void unlink_form(const struct form *form)
{
	struct form **at = bucket_of(form->text);

	while (*at != form)
		at = &(*at)->next;
	*at = form->next;
}

static void destroy(struct secret *s)
{
	list_remove(&s->link);
	for (size_t i = 0; i < s->form_count; i++) {
		unlink_form(&s->forms[i]);
		str_wipe_free(s->forms[i].text);
	}
	free(s->forms);
	free(s);
}

static struct secret *find(const char *value, size_t len)
{
	for (struct form *form = *bucket_of(value); form; form = form->next)
		if (form == form->owner->forms && form->len == len && memcmp(form->text, value, len) == 0)
			return form->owner;
	return NULL;
}

struct secret *secret_hold(const char *value)
{
	size_t len = value ? strlen(value) : 0;

	if (len < SECRET_LENGTH_MIN)
		return NULL;
	struct secret *s = find(value, len);

	if (!s) {
		s = xcalloc(1, sizeof(*s));
		list_init(&s->link);
		add_forms(s, value);
		link_forms(s);
	} else if (s->holds == 0) {
		released_count--;
	}
	if (s->holds++ == 0) {
		list_remove(&s->link);
		list_append(&held, &s->link);
	}
	return s;
}

static void forget_oldest(void)
{
	destroy(container_of(released.next, struct secret, link));
	released_count--;
}

void secret_release(struct secret *s)
{
	if (!s || --s->holds > 0)
		return;
	list_remove(&s->link);
	list_append(&released, &s->link);
	if (++released_count > RELEASED_MAX)
		forget_oldest();
}

void secret_forget(void)
{
	while (released_count > 0)
		forget_oldest();
}

/* --- sets --- */

void secret_set_hold(struct secret_set *set, const char *value)
{
	struct secret *s = secret_hold(value);

	if (!s)
		return;
	set->items = xrealloc(set->items, (set->count + 1) * sizeof(struct secret *));
	set->items[set->count++] = s;
}

static bool is_secret_key(const char *key, const json_t *keys)
{
	const json_t *name;
	size_t i;

	json_array_foreach(keys, i, name)
		if (str_eq(key, json_string_value(name)))
			return true;
	return false;
}

static void hold_strings(struct secret_set *set, json_t *value, const json_t *keys, bool secret)
{
	const char *key;
	json_t *member;
	size_t i;

	if (secret)
		secret_set_hold(set, json_string_value(value));
	json_object_foreach(value, key, member)
		hold_strings(set, member, keys, secret || is_secret_key(key, keys));
	json_array_foreach(value, i, member)
		hold_strings(set, member, keys, secret);
}

void secret_set_hold_config(struct secret_set *set, const json_t *config, const json_t *keys)
{
	/* Jansson's iteration takes no const value, though it changes nothing. */
	hold_strings(set, (json_t *)(uintptr_t)config, keys, false);
}

void secret_set_deinit(struct secret_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		secret_release(set->items[i]);
	free(set->items);
	*set = (struct secret_set){0};
}

/* --- masking --- */

/* The longest form that the text starts with: its length; 0: none. */
static size_t match(const char *text, size_t len)
{
	size_t longest = 0;

	for (const struct form *form = *bucket_of(text); form; form = form->next)
		if (form->len > longest && form->len <= len && memcmp(form->text, text, form->len) == 0)
			longest = form->len;
	return longest;
}

static bool none_known(void)
{
	return list_empty(&held) && list_empty(&released);
}

bool secret_mask(const char *text, size_t len, struct buf *ret)
{
	size_t copied = 0;

	buf_reset(ret);
	if (none_known())
		return false;
	for (size_t at = 0; len - at >= SECRET_LENGTH_MIN;) {
		size_t n = match(text + at, len - at);

		if (n == 0) {
			at++;
			continue;
		}
		buf_append(ret, text + copied, at - copied);
		buf_append_str(ret, MASK);
		copied = at += n;
	}
	if (copied == 0)
		return false;
	buf_append(ret, text + copied, len - copied);
	return true;
}

void secret_mask_string(char **text)
{
	cleanup_buf struct buf masked = BUF_INIT(BUF_UNBOUNDED);

	if (!*text || !secret_mask(*text, strlen(*text), &masked))
		return;
	str_wipe_free(*text);
	*text = buf_steal(&masked);
}

static bool holds_secret(json_t *value, struct buf *scratch)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(value))
		return secret_mask(json_string_value(value), json_string_length(value), scratch);
	json_object_foreach(value, key, member)
		if (holds_secret(member, scratch))
			return true;
	json_array_foreach(value, i, member)
		if (holds_secret(member, scratch))
			return true;
	return false;
}

static void mask_strings(json_t *value, struct buf *scratch)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(value) && secret_mask(json_string_value(value), json_string_length(value), scratch))
		json_string_setn(value, scratch->data, scratch->len);
	json_object_foreach(value, key, member)
		mask_strings(member, scratch);
	json_array_foreach(value, i, member)
		mask_strings(member, scratch);
}

json_t *secret_masked_json(json_t *value)
{
	cleanup_buf struct buf scratch = BUF_INIT(BUF_UNBOUNDED);

	if (!value || none_known() || !holds_secret(value, &scratch))
		return json_incref(value);
	json_t *copy = json_deep_copy(value);

	mask_strings(copy, &scratch);
	return copy;
}
