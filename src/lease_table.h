/*
 * lease_table: what a driver keeps in memory of each lease between calls, so that an execute costs the service's minimum of requests.
 *
 * An entry is the first member of the driver's own struct. It belongs to one company, environment and account: all of that is in its key,
 * so nothing is ever shared between companies. A lease that has ended is remembered for a while: its late calls are refused without a
 * request. Entries that are pinned, or ended and remembered, stay; the rest of their life is the driver's.
 *
 *	struct foo_lease { struct lease_entry entry; char *token; };
 *	lease_table_init(&state->leases, sizeof(struct foo_lease), foo_lease_deinit);
 *
 *	cleanup_free char *key = lease_key(&p->base, lease_id, account_parts);
 *	struct foo_lease *lease = lease_table_pin(&state->leases, key);
 *	if (lease->entry.ended) …
 *	lease_table_unpin(&state->leases, lease);
 */
#ifndef LEASE_TABLE_H
#define LEASE_TABLE_H

#include "base/list.h"
#include "provider.h"

#include <stddef.h>
#include <stdint.h>

struct lease_entry {
	struct list link;
	char *key; /* owned */
	uint64_t hash;
	unsigned pins;
	bool kept;  /* a lease that lives: stays without a pin */
	bool ended; /* released or destroyed; until lease_table_keep() */
	int64_t touched_ms; /* loop_now_ms() of the last keep or touch */
};

struct lease_table {
	struct list entries;
	size_t size;
	void (*deinit)(void *lease);
	size_t ended_count;
};

/* size: of the driver's struct, zeroed when made. deinit: of all but the entry; NULL: nothing to do. */
void lease_table_init(struct lease_table *table, size_t size, void (*deinit)(void *lease));
/* Nothing may be pinned. */
void lease_table_deinit(struct lease_table *table);

/*
 * Company, environment, lease id and what else tells accounts apart: API URL, credentials (of which a fingerprint is taken). parts: strings
 * up to NULL; "" for what is not set. Owned.
 */
char *lease_key(const struct request_base *base, const char *lease_id, const char *const *parts);

/* The entry of that key or NULL. Not pinned. */
void *lease_table_find(struct lease_table *table, const char *key);
/* The entry of that key, made if there is none; it stays until the unpin. */
void *lease_table_pin(struct lease_table *table, const char *key);
/* Frees it if it is neither kept nor ended. */
void lease_table_unpin(struct lease_table *table, void *lease);
/* A lease begins, or goes on: it stays, and is not ended any more. */
void lease_table_keep(struct lease_table *table, void *lease);
/* It has ended. Of those that nobody pins, the thousand that ended last are remembered. */
void lease_table_end(struct lease_table *table, void *lease);
/* It was in use just now. */
void lease_entry_touch(struct lease_entry *entry);

#endif
