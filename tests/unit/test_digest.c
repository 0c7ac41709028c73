#include "base/buf.h"
#include "protocol/digest.h"
#include "tap.h"

#include <string.h>

/* FIPS 180-4's examples, and lengths around the padding's borders as sha256sum(1) has them. */
TEST(sha256_of_known_texts)
{
	static const struct {
		size_t repeat;
		const char *text, *hex;
	} cases[] = {
		{1, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{1, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{1, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{55, "a", "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
		{56, "a", "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
		{64, "a", "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
		{1000000, "a", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
		char hex[SHA256_HEX_SIZE];

		buf_append_str(&text, "");
		for (size_t n = 0; n < cases[i].repeat; n++)
			buf_append_str(&text, cases[i].text);
		sha256_hex(text.data, text.len, hex);
		CHECK_STR(hex, cases[i].hex);
	}
}

/* wire: daytona, the sentinel's example token */
TEST(sha256_of_the_sentinel_in_the_wire_document)
{
	static const char text[] =
		"{\"adapterType\":\"claude_local\",\"agentId\":\"agent-1\",\"companyId\":\"company-1\",\"cpu\":null,\"disk\":null,"
		"\"environmentId\":\"env-1\",\"executionWorkspaceId\":\"ws-1\",\"gpu\":null,\"image\":null,\"memory\":null,"
		"\"provider\":\"daytona\",\"snapshot\":\"base-snapshot\",\"target\":null}";
	char hex[SHA256_HEX_SIZE];

	sha256_hex(text, strlen(text), hex);
	CHECK_STR(hex, "f183a8a1478e6c2ac157ba785166d24e045d3f84f9eec836d2d3f163cd82ec48");
}

TEST(sha1_of_known_texts)
{
	unsigned char out[SHA1_BYTES];

	sha1("abc", 3, out);
	CHECK_MEM((char *)out, sizeof(out), "\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d", 20);
	sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, out);
	CHECK_MEM((char *)out, sizeof(out), "\x84\x98\x3e\x44\x1c\x3b\xd2\x6e\xba\xae\x4a\xa1\xf9\x51\x29\xe5\xe5\x46\x70\xf1", 20);
}

TEST_MAIN()
