/* wire: e2b, envd: running a command: the events of a process. */
#include "providers/e2b/e2b.h"
#include "tap.h"

#include <string.h>

static int read_text(const char *text, struct e2b_event *ret)
{
	cleanup_err struct err err = ERR_INIT;

	return e2b_event_read(text, strlen(text), ret, &err);
}

TEST(starts_and_ends_are_read_with_zero_values_left_out)
{
	struct e2b_event e;

	CHECK(read_text("{\"event\": {\"start\":  {\"pid\":19142}}}", &e) == 0 && e.kind == E2B_EVENT_START && e.pid == 19142);
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"end\":{\"exited\":true,\"status\":\"exit status 0\"}}}", &e) == 0 &&
	      e.kind == E2B_EVENT_END && e.exited && e.exit_code == 0 && !e.error);
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"end\":{\"exitCode\":-1,\"status\":\"signal: killed\",\"error\":\"signal: killed\"}}}",
			&e) == 0 &&
	      !e.exited && e.exit_code == -1 && str_eq(e2b_signal_name(e.status), "SIGKILL"));
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"end\":{\"exit_code\":\"7\",\"exited\":true}}}", &e) == 0 && e.exit_code == 7);
	e2b_event_deinit(&e);
}

TEST(output_is_decoded_in_place)
{
	struct e2b_event e;

	CHECK(read_text("{\"event\":{\"data\":{\"stdout\":\"aMOp\"}}}", &e) == 0 && e.out.len == 3 &&
	      memcmp(e.out.data, "h\303\251", 3) == 0 && e.err.len == 0);
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"data\":{\"stderr\":\"\\u002b\\/8=\"}}}", &e) == 0 && e.err.len == 2);
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"data\":{\"pty\":\"YQ==\"}}}", &e) == 0 && e.out.len == 1);
	e2b_event_deinit(&e);
	CHECK(read_text("{\"event\":{\"data\":{\"stdout\":\"%\"}}}", &e) < 0);
	e2b_event_deinit(&e);
}

TEST(other_events_are_left_alone_and_broken_ones_are_errors)
{
	static const char *const others[] = {"{}", "{\"event\":null}", "{\"event\":{\"keepalive\":{}}}",
					     "{\"event\":{\"newer\":[1]},\"x\":2}"};
	static const char *const broken[] = {"", "{", "nonsense", "{\"event\":{\"start\":{\"pid\":}}}"};
	bool fine = true, refused = true;
	struct e2b_event e;

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		fine = fine && read_text(others[i], &e) == 0 && e.kind == E2B_EVENT_OTHER;
		e2b_event_deinit(&e);
	}
	CHECK(fine);
	for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++) {
		refused = refused && read_text(broken[i], &e) < 0;
		e2b_event_deinit(&e);
	}
	CHECK(refused);
}

TEST(signals_are_known_by_their_words)
{
	CHECK(str_eq(e2b_signal_name("signal: segmentation fault (core dumped)"), "SIGSEGV"));
	CHECK(!e2b_signal_name("exit status 3") && !e2b_signal_name("signal: nonsense") && !e2b_signal_name(NULL));
}

TEST_MAIN()
