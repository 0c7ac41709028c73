#include "protocol/base64.h"
#include "random.h"
#include "tap.h"

#include <string.h>

/* RFC 4648, section 10 */
TEST(base64_encodes_and_decodes_the_rfcs_vectors)
{
	static const char *const cases[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
					       {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_buf struct buf text = BUF_INIT(100), bytes = BUF_INIT(100);

		CHECK_INT(base64_encode(&text, cases[i][0], strlen(cases[i][0])), 0);
		CHECK_STR(text.data, cases[i][1]);
		CHECK_INT(base64_decode(&bytes, cases[i][1], strlen(cases[i][1])), 0);
		CHECK_STR(bytes.data, cases[i][0]);
	}
}

TEST(base64_takes_the_alphabet_of_urls_and_missing_padding)
{
	cleanup_buf struct buf bytes = BUF_INIT(100);

	CHECK_INT(base64_decode(&bytes, "-_8", 3), 0);
	CHECK_MEM(bytes.data, bytes.len, "\xFB\xFF", 2);
	CHECK_INT(base64_decode(&bytes, "+/8=", 4), 0);
	CHECK_MEM(bytes.data, bytes.len, "\xFB\xFF\xFB\xFF", 4);
}

TEST(base64_refuses_what_is_none_and_leaves_the_buffer)
{
	static const char *const cases[] = {"A", "A===", "====", "=", "AB=C", "AB==CD", "A B=", "Zm9v\n", "Zg=", "Z\xC3\xA9==", "AAAAA"};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_buf struct buf bytes = BUF_INIT(100);

		buf_append_str(&bytes, "before");
		CHECK_INT(base64_decode(&bytes, cases[i], strlen(cases[i])), -1);
		CHECK_STR(bytes.data, "before");
	}
}

TEST(base64_keeps_to_the_ceiling_to_the_byte)
{
	cleanup_buf struct buf exact = BUF_INIT(4), small = BUF_INIT(3);

	CHECK_INT(base64_decode(&exact, "Zm9vYg==", 8), 0);
	CHECK_INT(base64_decode(&small, "Zm9vYg==", 8), -1);
	CHECK_INT(base64_encode(&small, "a", 1), -1);
}

TEST(base64_gives_any_bytes_back)
{
	struct random random = {7};

	for (size_t n = 0; n < 300; n++) {
		cleanup_buf struct buf in = BUF_INIT(1000), text = BUF_INIT(1000), out = BUF_INIT(1000);

		for (size_t i = 0; i < n; i++)
			buf_append_char(&in, (char)random_below(&random, 256));
		CHECK_INT(base64_encode(&text, in.data, n), 0);
		CHECK_INT(base64_decode(&out, text.data, text.len), 0);
		CHECK_MEM(out.data, out.len, in.data, n);
	}
}

TEST_MAIN()
