/* Messages as big as they may be. */
#include "grpc_test.h"

HTTP_TEST(a_message_of_100_MB_goes_there)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	size_t n = GRPC_MESSAGE_MAX;
	cleanup_free char *text = xmalloc(n + 1);

	if (!has_http2())
		return;
	memset(text, 'x', n);
	text[n] = '\0';
	CHECK_INT(call_with("h2c", "length", text, &call, &answer, NULL), 0);
	CHECK_STR(answer.message.data, "104857600");
}

HTTP_TEST(a_message_of_100_MB_comes_back)
{
	struct grpc_call call = {0};
	cleanup_grpc_answer struct grpc_answer answer = {0};

	if (!has_http2())
		return;
	CHECK_INT(call_with("h2c", "big", "104857600", &call, &answer, NULL), 0);
	CHECK_INT((int)answer.message.len, 104857600);
	CHECK(answer.message.data[0] == 'b' && answer.message.data[104857599] == 'b');
}

HTTP_TEST(a_message_beyond_the_ceiling_is_refused)
{
	struct grpc_call call = {.message_max = 1 << 20};
	cleanup_grpc_answer struct grpc_answer answer = {0};
	cleanup_err struct err err = ERR_INIT;

	if (!has_http2())
		return;
	CHECK_INT(call_with("h2c", "big", "1048577", &call, &answer, &err), -1);
	CHECK_INT(answer.status, GRPC_INTERNAL);
	CHECK(strstr(err_text(&err), "bigger than 1048581 bytes"));
}

TEST_MAIN()
