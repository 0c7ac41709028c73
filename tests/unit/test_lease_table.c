#include "lease_table.h"

#include "base/mem.h"
#include "base/random.h"
#include "loop.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

struct lease {
	struct lease_entry entry;
	char *token; /* owned */
};

static unsigned deinited;

static void lease_deinit(void *arg)
{
	struct lease *lease = arg;

	free(lease->token);
	deinited++;
}

static const char *const account[] = {"https://api.example", "key", NULL};

static void check_keys(void *arg)
{
	struct request_base one = {.company_id = "c1", .environment_id = "e1"}, two = {.company_id = "c2", .environment_id = "e1"};
	static const char *const other[] = {"https://api.example", "kez", NULL}, *const shifted[] = {"https://api.examplek", "ey", NULL};
	cleanup_free char *key = lease_key(&one, "l", account), *same = lease_key(&one, "l", account);
	cleanup_free char *company = lease_key(&two, "l", account), *credentials = lease_key(&one, "l", other);
	cleanup_free char *moved = lease_key(&one, "l", shifted), *nobody = lease_key(&(struct request_base){0}, "l", account);

	CHECK_STR(key, same);
	CHECK(strcmp(key, company) != 0 && strcmp(key, credentials) != 0 && strcmp(key, moved) != 0 && strcmp(key, nobody) != 0);
	CHECK(!strstr(key, "kez") && !strstr(key, "3:key"));
}

TEST(keys_tell_companies_and_accounts_apart_and_hold_no_credentials)
{
	run_in_loop(check_keys, NULL);
}

static void check_life(void *arg)
{
	struct lease_table table;

	deinited = 0;
	lease_table_init(&table, sizeof(struct lease), lease_deinit);
	struct lease *lease = lease_table_pin(&table, "a");
	CHECK(lease->token == NULL && lease_table_find(&table, "a") == lease && lease_table_pin(&table, "a") == lease);
	lease->token = xstrdup("t");
	lease_table_unpin(&table, lease);
	CHECK_INT(deinited, 0);
	lease_table_unpin(&table, lease);
	CHECK_INT(deinited, 1);
	CHECK(!lease_table_find(&table, "a"));

	lease = lease_table_pin(&table, "a");
	lease_table_keep(&table, lease);
	lease_table_unpin(&table, lease);
	CHECK(lease_table_find(&table, "a") == lease && !lease->entry.ended);
	lease_table_pin(&table, "a");
	lease_table_end(&table, lease);
	lease_table_unpin(&table, lease);
	CHECK(lease_table_find(&table, "a") == lease && lease->entry.ended);
	lease_table_keep(&table, lease);
	CHECK(!lease->entry.ended && table.ended_count == 0);
	lease_table_deinit(&table);
	CHECK_INT(deinited, 2);
}

TEST(an_entry_lives_while_it_is_pinned_kept_or_ended)
{
	run_in_loop(check_life, NULL);
}

static void check_memory(void *arg)
{
	struct lease_table table;

	lease_table_init(&table, sizeof(struct lease_entry), NULL);
	struct lease_entry *held = lease_table_pin(&table, "held");
	lease_table_end(&table, held);
	for (unsigned i = 0; i < 3000; i++) {
		cleanup_free char *key = xasprintf("%u", i);
		struct lease_entry *entry = lease_table_pin(&table, key);
		lease_table_end(&table, entry);
		lease_table_unpin(&table, entry);
	}
	CHECK(lease_table_find(&table, "held") == held);
	CHECK(lease_table_find(&table, "2999") && !lease_table_find(&table, "0"));
	CHECK(table.ended_count < 1100);
	lease_table_unpin(&table, held);
	lease_table_deinit(&table);
}

TEST(the_memory_of_ended_leases_is_bounded_and_spares_those_in_use)
{
	run_in_loop(check_memory, NULL);
}

TEST(uuids_are_random_of_version_4_and_lower_case)
{
	cleanup_free char *a = random_uuid(), *b = random_uuid();

	CHECK_INT(strlen(a), 36);
	CHECK(a[14] == '4' && strchr("89ab", a[19]) && strspn(a, "0123456789abcdef-") == 36 && strcmp(a, b) != 0);
}

TEST_MAIN()
