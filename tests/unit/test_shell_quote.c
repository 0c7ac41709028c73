#include "protocol/shell_quote.h"
#include "tap.h"

#include <string.h>

static void check_quoted(const char *word, const char *want)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	shell_quote(&out, word);
	CHECK_STR(out.data, want);
}

TEST(words_are_single_quoted)
{
	check_quoted("", "''");
	check_quoted("plain", "'plain'");
	check_quoted("a b $x `y` \\ \" \n", "'a b $x `y` \\ \" \n'");
	check_quoted("it's", "'it'\"'\"'s'");
	check_quoted("''", "''\"'\"''\"'\"''");
}

TEST(env_keys_are_identifiers)
{
	static const char *const good[] = {"A", "_", "a1", "FOO_BAR", "_9"};
	static const char *const bad[] = {"", "9A", "BAD-KEY", "A B", "A=B", "\xC3\xA9", "A\n", " A"};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		CHECK(shell_env_key_is_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(!shell_env_key_is_valid(bad[i]));
}

TEST(the_first_bad_env_key_is_named)
{
	cleanup_json json_t *env = json_pack("{s:s, s:s, s:s}", "GOOD", "1", "BAD-KEY", "2", "also bad", "3");
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(shell_check_env(NULL, &err), 0);
	CHECK_INT(shell_check_env(env, &err), -1);
	CHECK_STR(err_text(&err), "Invalid sandbox environment variable key: BAD-KEY");
	CHECK(err_is(&err, ERR_INVALID));
}

static void check_script(const struct shell_script *script, const char *tail)
{
	static const char profiles[] =
		"if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && if [ -f \"$HOME/.profile\" ]; then . \"$HOME/.profile\" "
		">/dev/null 2>&1 || true; fi && if [ -f \"$HOME/.bash_profile\" ]; then . \"$HOME/.bash_profile\" >/dev/null 2>&1 || true; elif [ -f "
		"\"$HOME/.bashrc\" ]; then . \"$HOME/.bashrc\" >/dev/null 2>&1 || true; fi && if [ -f \"$HOME/.zprofile\" ]; then . "
		"\"$HOME/.zprofile\" >/dev/null 2>&1 || true; fi && ";
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	shell_write_script(&out, script);
	CHECK(strncmp(out.data, profiles, strlen(profiles)) == 0);
	CHECK_STR(out.data + strlen(profiles), tail);
}

TEST(scripts_have_each_part_only_if_it_is_there)
{
	char *const none[] = {NULL}, hello[] = "hello", *const one[] = {hello, NULL};
	cleanup_json json_t *env = json_pack("{s:i, s:s, s:n, s:s}", "N", 1, "FOO", "bar", "Z", "Q", "it's");
	cleanup_json json_t *no_strings = json_pack("{s:i}", "N", 1);

	check_script(&(struct shell_script){.command = "true", .args = none}, "'true'");
	check_script(&(struct shell_script){.command = "printf", .args = one, .exec = true}, "exec 'printf' 'hello'");
	check_script(&(struct shell_script){.command = "cat", .args = none, .cwd = "", .env = no_strings, .stdin_path = "/tmp/in"}, "'cat' < '/tmp/in'");
	check_script(&(struct shell_script){.command = "printf", .args = one, .exec = true, .env = env, .cwd = "/a b", .setup = "export X='1'",
					    .stdin_path = "/tmp/in"},
		     "export X='1' && cd '/a b' && exec env FOO='bar' Q='it'\"'\"'s' 'printf' 'hello' < '/tmp/in'");
}

TEST_MAIN()
