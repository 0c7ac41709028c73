/* grpc_test: what the tests of gRPC calls share. */
#ifndef TESTS_GRPC_TEST_H
#define TESTS_GRPC_TEST_H

#include "grpc.h"
#include "http_test.h"

#include <string.h>

static inline bool has_http2(void)
{
	if (stub_port("h2c"))
		return true;
	tap_skip("python3-h2 is not installed");
	return false;
}

/* One call of /grpc.Stub/<method> with that message. */
static inline int call_with(const char *server, const char *method, const char *message, struct grpc_call *call,
			    struct grpc_answer *answer, struct err *err)
{
	cleanup_free char *origin = stub_url(server, "%s", ""), *path = xasprintf("/grpc.Stub/%s", method);
	cleanup_json json_t *config = json_pack("{s:s}", "caFile", stub_path("ca"));
	struct http_options options;

	http_options_read(config, &options, NULL);
	call->server = origin;
	call->path = path;
	call->options = &options;
	call->message = message;
	call->size = strlen(message);
	int rc = grpc_perform(client, call, answer, err);

	http_options_deinit(&options);
	return rc;
}

#endif
