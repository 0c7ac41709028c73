#include "base/err.h"
#include "base/mem.h"
#include "tap.h"

#include <errno.h>
#include <string.h>

TEST(an_error_has_kind_and_message)
{
	cleanup_err struct err e = ERR_INIT;

	CHECK_STR(err_text(&e), "no error");
	CHECK_INT(err_set(&e, ERR_NOT_FOUND, "no lease %d", 7), -1);
	CHECK(err_is(&e, ERR_NOT_FOUND));
	CHECK_STR(err_text(&e), "no lease 7");
}

TEST(the_first_error_stays)
{
	cleanup_err struct err e = ERR_INIT;

	err_set(&e, ERR_TIMEOUT, "first");
	CHECK_INT(err_set(&e, ERR_INVALID, "second"), -1);
	CHECK_INT(err_set_errno(&e, EIO, "third"), -1);
	CHECK(err_is(&e, ERR_TIMEOUT));
	CHECK_INT(e.sys_errno, 0);
	CHECK_STR(err_text(&e), "first");
}

TEST(a_system_error_keeps_its_number_and_says_its_text)
{
	cleanup_err struct err e = ERR_INIT;
	cleanup_free char *want = xasprintf("open /x: %s", strerror(ENOENT));

	CHECK_INT(err_set_errno(&e, ENOENT, "open %s", "/x"), -1);
	CHECK(err_is(&e, ERR_SYSTEM));
	CHECK_INT(e.sys_errno, ENOENT);
	CHECK_STR(err_text(&e), want);
}

TEST(wrapping_puts_context_in_front_and_keeps_the_rest)
{
	cleanup_err struct err e = ERR_INIT;

	CHECK_INT(err_wrap(&e, "nothing to wrap"), -1);
	CHECK(err_is(&e, ERR_NONE));
	err_set_errno(&e, EACCES, "mkdir");
	cleanup_free char *want = xasprintf("lease 3: %s", err_text(&e));

	e.rpc_code = -5;
	CHECK_INT(err_wrap(&e, "lease %d", 3), -1);
	CHECK_STR(err_text(&e), want);
	CHECK(err_is(&e, ERR_SYSTEM));
	CHECK_INT(e.sys_errno, EACCES);
	CHECK_INT(e.rpc_code, -5);
}

TEST(wrapping_an_error_without_a_message_gives_one)
{
	cleanup_err struct err e = {.kind = ERR_BUSY};

	CHECK_STR(err_text(&e), "unknown error");
	err_wrap(&e, "try");
	CHECK_STR(err_text(&e), "try: failed");
}

TEST(moving_hands_over_message_and_data)
{
	cleanup_err struct err to = ERR_INIT;
	struct err from = ERR_INIT;

	err_set(&from, ERR_REMOTE, "text");
	from.data = json_integer(5);
	CHECK_INT(err_move(&to, &from), -1);
	CHECK(err_is(&from, ERR_NONE) && !from.message && !from.data);
	CHECK(err_is(&to, ERR_REMOTE));
	CHECK_STR(err_text(&to), "text");
	CHECK_INT(json_integer_value(to.data), 5);
}

TEST(moving_onto_an_error_keeps_the_first)
{
	cleanup_err struct err to = ERR_INIT;
	struct err from = ERR_INIT;

	err_set(&to, ERR_TIMEOUT, "first");
	err_set(&from, ERR_REMOTE, "second");
	err_move(&to, &from);
	CHECK(err_is(&to, ERR_TIMEOUT));
	CHECK(err_is(&from, ERR_NONE) && !from.message);
}

TEST(an_error_that_nobody_wants_is_dropped)
{
	struct err from = ERR_INIT;

	CHECK_INT(err_set(NULL, ERR_REMOTE, "x"), -1);
	CHECK_INT(err_set_errno(NULL, EIO, "x"), -1);
	CHECK_INT(err_wrap(NULL, "x"), -1);
	err_set(&from, ERR_REMOTE, "second");
	CHECK_INT(err_move(NULL, &from), -1);
	CHECK(err_is(&from, ERR_NONE) && !from.message);
}

TEST(clearing_makes_an_error_usable_again)
{
	cleanup_err struct err e = ERR_INIT;

	err_clear(NULL);
	err_clear(&e);
	err_set(&e, ERR_INVALID, "a");
	err_clear(&e);
	err_clear(&e);
	CHECK(err_is(&e, ERR_NONE));
	err_set(&e, ERR_AUTH, "b");
	CHECK_STR(err_text(&e), "b");
}

TEST_MAIN()
