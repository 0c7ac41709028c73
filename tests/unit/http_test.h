/* http_test: what the tests of the HTTP client share: a client in a fiber, and short ways to call. */
#ifndef TESTS_HTTP_TEST_H
#define TESTS_HTTP_TEST_H

#include "base/mem.h"
#include "base/str.h"
#include "http.h"
#include "loop.h"
#include "stub_server.h"
#include "tap.h"

static struct http_client *client;

struct scenario {
	void (*play)(void);
};

static inline void play_with_client(void *arg)
{
	const struct scenario *s = arg;

	client = http_client_create("test/1");
	s->play();
	http_client_destroy(client);
	client = NULL;
}

/* A test whose body runs in a fiber, with `client`. What it leaves on the loop is a failed check. */
#define HTTP_TEST(name_) \
	static void play_##name_(void); \
	TEST(name_) \
	{ \
		run_in_loop(play_with_client, &(struct scenario){play_##name_}); \
	} \
	static void play_##name_(void)

/* Performs and forgets all but the error; the answer's body is owned by the caller (NULL on failure). */
static inline char *perform(struct http_request *request, struct err *err)
{
	cleanup_http_response struct http_response response = {0};

	if (!request->method)
		request->method = "GET";
	if (http_perform(client, request, &response, err) < 0)
		return NULL;
	return buf_steal(&response.body);
}

static inline void check_fails(struct http_request *request, enum err_kind kind, const char *text)
{
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = perform(request, &err);

	CHECK(!body);
	CHECK_INT(err.kind, kind);
	CHECK_STR(err_text(&err), text);
}

#endif
