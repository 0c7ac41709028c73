#include "lease_table.h"

#include "base/mem.h"
#include "base/buf.h"
#include "fiber.h"
#include "protocol/digest.h"

#include <stdlib.h>
#include <string.h>

#define REMEMBERED_MAX 1000

void lease_table_init(struct lease_table *table, size_t size, void (*deinit)(void *lease))
{
	*table = (struct lease_table){.size = size, .deinit = deinit};
	list_init(&table->entries);
}

static struct lease_entry *entry_of(struct list *link)
{
	return container_of(link, struct lease_entry, link);
}

static void destroy(struct lease_table *table, struct lease_entry *entry)
{
	list_remove(&entry->link);
	if (entry->ended)
		table->ended_count--;
	if (table->deinit)
		table->deinit(entry);
	free(entry->key);
	free(entry);
}

void lease_table_deinit(struct lease_table *table)
{
	list_for_each(link, &table->entries)
		destroy(table, entry_of(link));
}

static void append_part(struct buf *out, const char *part)
{
	buf_printf(out, "%zu:%s", strlen(part), part);
}

char *lease_key(const struct request_base *base, const char *lease_id, const char *const *parts)
{
	cleanup_buf struct buf account = BUF_INIT(BUF_UNBOUNDED);
	struct buf key = BUF_INIT(BUF_UNBOUNDED);
	char fingerprint[SHA256_HEX_SIZE];

	for (; *parts; parts++)
		append_part(&account, *parts);
	sha256_hex(account.data ? account.data : "", account.len, fingerprint);
	append_part(&key, base->company_id ? base->company_id : "");
	append_part(&key, base->environment_id ? base->environment_id : "");
	append_part(&key, lease_id);
	append_part(&key, fingerprint);
	return buf_steal(&key);
}

/* FNV-1a. */
static uint64_t hash_of(const char *key)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *key; key++)
		hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
	return hash;
}

void *lease_table_find(struct lease_table *table, const char *key)
{
	uint64_t hash = hash_of(key);

	list_for_each(link, &table->entries) {
		struct lease_entry *entry = entry_of(link);
		if (entry->hash == hash && strcmp(entry->key, key) == 0)
			return entry;
	}
	return NULL;
}

void *lease_table_pin(struct lease_table *table, const char *key)
{
	struct lease_entry *entry = lease_table_find(table, key);

	if (!entry) {
		entry = xcalloc(1, table->size);
		entry->key = xstrdup(key);
		entry->hash = hash_of(key);
		list_append(&table->entries, &entry->link);
	}
	entry->pins++;
	return entry;
}

void lease_table_unpin(struct lease_table *table, void *lease)
{
	struct lease_entry *entry = lease;

	entry->pins--;
	if (entry->pins == 0 && !entry->kept && !entry->ended)
		destroy(table, entry);
}

void lease_table_keep(struct lease_table *table, void *lease)
{
	struct lease_entry *entry = lease;

	if (entry->ended)
		table->ended_count--;
	entry->ended = false;
	entry->kept = true;
	lease_entry_touch(entry);
}

static void forget_oldest(struct lease_table *table)
{
	list_for_each(link, &table->entries) {
		struct lease_entry *entry = entry_of(link);
		if (table->ended_count <= REMEMBERED_MAX)
			return;
		if (entry->ended && entry->pins == 0)
			destroy(table, entry);
	}
}

void lease_table_end(struct lease_table *table, void *lease)
{
	struct lease_entry *entry = lease;

	if (!entry->ended)
		table->ended_count++;
	entry->ended = true;
	entry->kept = false;
	list_remove(&entry->link);
	list_append(&table->entries, &entry->link);
	forget_oldest(table);
}

void lease_entry_touch(struct lease_entry *entry)
{
	entry->touched_ms = loop_now_ms();
}
