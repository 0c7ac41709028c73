/* The texts of gRPC's headers: whatever a service sends, a status has a name and a message is valid text. */
#include "base/mem.h"
#include "base/utf8.h"
#include "fuzz.h"
#include "protocol/grpc_status.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = xmemdup0(data, size);
	cleanup_free char *message = grpc_message_decode(text);
	char timeout[GRPC_TIMEOUT_BYTES];
	int64_t ms = 1;

	REQUIRE(utf8_is_valid(message, strlen(message)));
	REQUIRE(*grpc_status_name(grpc_status_parse(text)) != '\0');
	for (size_t i = 0; i < size && i < 7; i++)
		ms = ms << 8 | data[i];
	grpc_timeout_format(ms, timeout);
	REQUIRE(strspn(timeout, "0123456789") == strlen(timeout) - 1 && strlen(timeout) <= 9);
	return 0;
}
