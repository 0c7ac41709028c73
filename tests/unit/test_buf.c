#include "base/buf.h"
#include "tap.h"

#include <string.h>

TEST(appended_bytes_are_followed_by_a_nul)
{
	cleanup_buf struct buf b = BUF_INIT(100);

	CHECK_INT(buf_append(&b, "a\0b", 3), 0);
	CHECK_MEM(b.data, b.len + 1, "a\0b\0", 4);
	CHECK_INT(buf_append_char(&b, 'c'), 0);
	CHECK_INT(buf_append_str(&b, "de"), 0);
	CHECK_MEM(b.data, b.len + 1, "a\0bcde\0", 7);
	CHECK_INT(buf_append(&b, NULL, 0), 0);
	CHECK_INT(b.len, 6);
}

TEST(an_append_up_to_the_ceiling_fits)
{
	cleanup_buf struct buf b = BUF_INIT(4);

	CHECK_INT(buf_append_str(&b, "abcd"), 0);
	CHECK_STR(b.data, "abcd");
	CHECK_INT(buf_append(&b, "", 0), 0);
}

TEST(an_append_past_the_ceiling_fails_and_changes_nothing)
{
	cleanup_buf struct buf b = BUF_INIT(4);

	CHECK_INT(buf_append_str(&b, "abc"), 0);
	CHECK_INT(buf_append_str(&b, "de"), -1);
	CHECK_INT(buf_printf(&b, "%d", 12), -1);
	CHECK(!buf_reserve(&b, 2));
	CHECK(!buf_reserve(&b, SIZE_MAX));
	CHECK_STR(b.data, "abc");
	CHECK_INT(b.len, 3);
	CHECK_INT(buf_append_char(&b, 'd'), 0);
	CHECK_INT(buf_append_char(&b, 'e'), -1);
	CHECK_STR(b.data, "abcd");
}

TEST(formatted_text_is_appended_whole)
{
	cleanup_buf struct buf b = BUF_INIT(BUF_UNBOUNDED);

	for (int i = 0; i < 100; i++)
		CHECK_INT(buf_printf(&b, "%d,%s;", i % 10, "x"), 0);
	CHECK_INT(b.len, 400);
	CHECK_INT(strncmp(b.data + 36, "9,x;0,x;", 8), 0);
}

TEST(reserved_room_can_be_filled_in_place)
{
	cleanup_buf struct buf b = BUF_INIT(BUF_UNBOUNDED);
	char *room = buf_reserve(&b, 1000);

	memset(room, 'x', 1000);
	buf_added(&b, 7);
	CHECK_STR(b.data, "xxxxxxx");
}

TEST(many_small_appends_keep_all_bytes)
{
	cleanup_buf struct buf b = BUF_INIT(BUF_UNBOUNDED);

	for (int i = 0; i < 100000; i++)
		buf_append_char(&b, (char)('a' + i % 26));
	CHECK_INT(b.len, 100000);
	for (size_t i = 0; i < b.len; i++) {
		if (b.data[i] != (char)('a' + i % 26))
			tap_fail(__FILE__, __LINE__, "byte %zu is lost", i);
	}
}

TEST(consumed_bytes_go_from_the_front)
{
	cleanup_buf struct buf b = BUF_INIT(100);

	buf_consume(&b, 5);
	buf_append_str(&b, "abcdef");
	buf_consume(&b, 2);
	CHECK_STR(b.data, "cdef");
	buf_consume(&b, 0);
	CHECK_STR(b.data, "cdef");
	buf_consume(&b, 99);
	CHECK_STR(b.data, "");
	CHECK_INT(b.len, 0);
}

TEST(truncated_text_keeps_its_start)
{
	cleanup_buf struct buf b = BUF_INIT(100);

	buf_truncate(&b, 0);
	buf_append_str(&b, "abcdef");
	buf_truncate(&b, 9);
	CHECK_STR(b.data, "abcdef");
	buf_truncate(&b, 2);
	CHECK_STR(b.data, "ab");
	CHECK_INT(b.len, 2);
}

TEST(a_reset_buffer_keeps_its_memory)
{
	cleanup_buf struct buf b = BUF_INIT(100);

	buf_reset(&b);
	buf_append_str(&b, "abcdef");
	size_t cap = b.cap;

	buf_reset(&b);
	CHECK_STR(b.data, "");
	CHECK_INT(b.cap, cap);
}

TEST(stolen_text_belongs_to_the_caller)
{
	struct buf b = BUF_INIT(100);
	cleanup_free char *empty = buf_steal(&b);

	CHECK_STR(empty, "");
	buf_append_str(&b, "abc");
	cleanup_free char *text = buf_steal(&b);
	CHECK_STR(text, "abc");
	CHECK(!b.data && b.len == 0 && b.cap == 0);
	CHECK_INT(buf_append_str(&b, "still usable"), 0);
	buf_wipe(&b);
	CHECK(!b.data && b.len == 0);
	CHECK_INT(b.max, 100);
}

TEST(nothing_can_be_freed_twice)
{
	struct buf b = {0};

	buf_deinit(NULL);
	buf_wipe(NULL);
	buf_deinit(&b);
	buf_wipe(&b);
	CHECK_INT(buf_append_char(&b, 'x'), -1); /* a zeroed buffer has the ceiling 0 */
	CHECK(!b.data);
}

TEST_MAIN()
