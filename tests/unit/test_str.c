#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "tap.h"

#include <stdlib.h>

TEST(strings_are_equal_by_content_and_null_to_null_only)
{
	CHECK(str_eq("a", "a"));
	CHECK(!str_eq("a", "b"));
	CHECK(!str_eq(NULL, ""));
	CHECK(!str_eq("", NULL));
	CHECK(str_eq(NULL, NULL));
}

TEST(prefixes_and_suffixes_are_found)
{
	CHECK(str_starts_with("abc", "ab"));
	CHECK(str_starts_with("abc", ""));
	CHECK(!str_starts_with("ab", "abc"));
	CHECK(str_ends_with("abc", "bc"));
	CHECK(str_ends_with("abc", ""));
	CHECK(!str_ends_with("bc", "abc"));
	CHECK(!str_ends_with("abc", "ab"));
}

TEST(null_and_empty_strings_are_not_nonempty)
{
	CHECK(!str_nonempty(NULL));
	CHECK(!str_nonempty(""));
	CHECK(str_nonempty(" "));
}

TEST(a_vector_is_null_terminated_at_every_size)
{
	struct strv v = {0};

	CHECK(strv_list(&v) && !strv_list(&v)[0]);
	for (int i = 0; i < 1000; i++) {
		strv_addf(&v, "%d", i);
		CHECK_INT(v.count, i + 1);
		CHECK(!v.items[v.count]);
	}
	for (int i = 0; i < 1000; i++)
		CHECK_INT(strtol(strv_list(&v)[i], NULL, 10), i);
	strv_deinit(&v);
	CHECK(!v.items && v.count == 0);
	strv_deinit(&v);
}

TEST(a_vector_copies_what_is_added_and_owns_what_it_takes)
{
	cleanup_strv struct strv v = {0};
	char text[] = "a";

	strv_add(&v, text);
	text[0] = 'x';
	strv_add_all(&v, "b", "c", NULL);
	strv_take(&v, xstrdup("d"));
	CHECK_INT(v.count, 4);
	CHECK_STR(v.items[0], "a");
	CHECK_STR(v.items[1], "b");
	CHECK_STR(v.items[2], "c");
	CHECK_STR(v.items[3], "d");
}

struct thing {
	int number;
	struct list link;
};

TEST(a_list_keeps_order_and_lets_the_current_item_go)
{
	struct list head = LIST_INIT(head);
	struct thing things[4];
	int seen = 0;

	CHECK(list_empty(&head));
	CHECK(!list_pop(&head));
	for (int i = 0; i < 4; i++) {
		things[i].number = i;
		list_append(&head, &things[i].link);
	}
	list_for_each(item, &head) {
		CHECK_INT(container_of(item, struct thing, link)->number, seen++);
		if (seen % 2)
			list_remove(item);
	}
	CHECK_INT(seen, 4);
	list_remove(&things[0].link); /* again: does no harm */
	CHECK(list_pop(&head) == &things[1].link);
	CHECK(list_pop(&head) == &things[3].link);
	CHECK(list_empty(&head));
}

TEST_MAIN()
