/* The ssh driver's texts: its config, keys, what ssh says, and the marks in the streams. */
#include "providers/ssh/ssh.h"
#include "tap.h"

#include <string.h>

/* --- config --- */

static const char base_config[] =
	"{'host':'h.example','username':'u','remoteWorkspacePath':'/w','privateKey':'k','knownHosts':'h.example ssh-ed25519 A'}";

/* The base with that put in its place, as "'key':value"; in single quotes. Owned. */
static json_t *config_with(const char *entry)
{
	cleanup_free char *text = xstrdup(base_config);
	cleanup_free char *more = xasprintf("{%s}", entry);

	for (char *at = text; *at; at++)
		*at = *at == '\'' ? '"' : *at;
	for (char *at = more; *at; at++)
		*at = *at == '\'' ? '"' : *at;
	json_t *config = json_loads(text, 0, NULL), *changes = json_loads(more, JSON_ALLOW_NUL, NULL);
	if (json_object_update(config, changes) < 0)
		abort();
	json_decref(changes);
	return config;
}

/* The first error, or NULL. Owned. */
static char *first_error(const char *entry)
{
	json_t *config = config_with(entry);
	struct validation validation = {0};
	struct ssh_config c;

	ssh_config_parse(config, &c);
	ssh_config_validate(&c, config, &validation);
	char *error = validation.errors.count > 0 ? xstrdup(validation.errors.items[0]) : NULL;
	ssh_config_deinit(&c);
	validation_deinit(&validation);
	json_decref(config);
	return error;
}

TEST(what_a_config_may_not_hold_is_told_by_name)
{
	static const struct {
		const char *entry, *error;
	} rows[] = {
		{"'host':null", "SSH sandbox environments require host."},
		{"'host':' '", "SSH sandbox environments require host."},
		{"'host':'-oProxyCommand=x'", "host must be"},
		{"'host':'a b'", "host must be"},
		{"'host':'u@h'", "host must be"},
		{"'host':'h\\nx'", "host must be"},
		{"'host':'h/..'", "host must be"},
		{"'port':0", "port must be"},
		{"'port':65536", "port must be"},
		{"'port':22.5", "port must be"},
		{"'port':'22'", "port must be"},
		{"'username':null", "SSH sandbox environments require username."},
		{"'username':'-l'", "username must be"},
		{"'username':'a$b'", "username must be"},
		{"'username':'$'", "username must be"},
		{"'remoteWorkspacePath':null", "SSH sandbox environments require remoteWorkspacePath."},
		{"'remoteWorkspacePath':'relative'", "remoteWorkspacePath must be an absolute path"},
		{"'remoteWorkspacePath':'~/x'", "remoteWorkspacePath must be an absolute path"},
		{"'remoteWorkspacePath':'/a/../b'", "remoteWorkspacePath must be an absolute path"},
		{"'remoteWorkspacePath':'/a/.'", "remoteWorkspacePath must be an absolute path"},
		{"'remoteWorkspacePath':'/a\\nb'", "remoteWorkspacePath must be an absolute path"},
		{"'remoteWorkspacePath':'/'", "remoteWorkspacePath must not be /."},
		{"'remoteWorkspacePath':'//'", "remoteWorkspacePath must not be /."},
		{"'privateKey':5", "privateKey must be a string."},
		{"'privateKey':'a\\u0000b'", "privateKey must not contain a null character."},
		{"'knownHosts':['x']", "knownHosts must be a string."},
		{"'strictHostKeyChecking':'yes'", "strictHostKeyChecking must be true or false."},
		{"'reuseLease':1", "reuseLease must be true or false."},
		{"'loginShell':'no'", "loginShell must be true or false."},
		{"'timeoutMs':0", "timeoutMs must be"},
		{"'timeoutMs':86400001", "timeoutMs must be"},
		{"'maxSessions':0", "maxSessions must be"},
		{"'serverAliveSeconds':-1", "serverAliveSeconds must be"},
		{"'connectTimeoutSeconds':301", "connectTimeoutSeconds must be"},
		{"'jumpHosts':'a,,b'", "jumpHosts must be"},
		{"'jumpHosts':'a:x'", "jumpHosts must be"},
		{"'jumpHosts':'-oProxyCommand=x'", "jumpHosts must be"},
		{"'jumpHosts':'u@-h'", "jumpHosts must be"},
		{"'jumpHosts':'a b'", "jumpHosts must be"},
		{"'jumpHosts':'[::1'", "jumpHosts must be"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		cleanup_free char *error = first_error(rows[i].entry);
		if (!error || !str_starts_with(error, rows[i].error))
			tap_fail(__FILE__, __LINE__, "%s: %s", rows[i].entry, error ? error : "no error");
	}
}

TEST(what_a_config_may_hold_is_taken)
{
	static const char *const rows[] = {
		"'host':'::1'",
		"'host':'[fe80::1]'",
		"'host':'10.0.0.1'",
		"'port':65535",
		"'port':null",
		"'username':'svc.user_x-1$'",
		"'remoteWorkspacePath':'/a dir/$HOME/%n/'",
		"'privateKey':'5b0c1f0e-6a0e-4a44-9d3c-2f4c7a1f0001'",
		"'privateKey':null",
		"'unknown':{'x':1}",
		"'jumpHosts':'a.example, root@b:2222 ,u@[::1]:22,fe80::2'",
		"'jumpHosts':''",
		"'timeoutMs':86400000",
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		cleanup_free char *error = first_error(rows[i]);
		if (error)
			tap_fail(__FILE__, __LINE__, "%s: %s", rows[i], error);
	}
}

TEST(the_normal_form_keeps_secrets_as_they_came_and_is_stable)
{
	json_t *config = config_with("'privateKey':' 5b0c1f0e \\n','host':' h.example ','remoteWorkspacePath':'/w//','jumpHosts':' a '");
	struct ssh_config c;

	ssh_config_parse(config, &c);
	json_t *normal = ssh_config_normalized(&c);
	CHECK_STR(json_string_value(json_object_get(normal, "privateKey")), " 5b0c1f0e \n");
	CHECK_STR(json_string_value(json_object_get(normal, "host")), "h.example");
	CHECK_STR(json_string_value(json_object_get(normal, "remoteWorkspacePath")), "/w");
	CHECK_STR(json_string_value(json_object_get(normal, "jumpHosts")), "a");
	CHECK_INT(json_integer_value(json_object_get(normal, "port")), 22);
	CHECK(json_is_true(json_object_get(normal, "strictHostKeyChecking")));
	ssh_config_deinit(&c);
	ssh_config_parse(normal, &c);
	json_t *again = ssh_config_normalized(&c);
	CHECK(json_equal(normal, again));
	ssh_config_deinit(&c);
	json_decref(again);
	json_decref(normal);
	json_decref(config);
}

TEST(a_lease_id_is_this_configs_own_or_refused)
{
	static const char good[] = "ssh://u@h.example:22/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd";
	static const char *const bad[] = {
		"",
		"ssh://u@h.example:22/w/paperclip-",
		"ssh://u@h.example:22/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd/",
		"ssh://u@h.example:22/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd/../x",
		"ssh://u@h.example:22/w/paperclip-01234567-89AB-4cde-8f01-23456789abcd",
		"ssh://u@h.example:22/w/../w/paperclip-01234567-89ab-4cde-8f01-23456789abcd",
		"ssh://u@h.example:23/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd",
		"ssh://v@h.example:22/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd",
		"ssh://u@h.example:22/x/paperclip-01234567-89ab-4cde-8f01-23456789abcd",
		"ssh://u@h.example:22/w/other-01234567-89ab-4cde-8f01-23456789abcd",
	};
	json_t *config = config_with("");
	struct ssh_config c;
	struct ssh_place place = {0};

	ssh_config_parse(config, &c);
	CHECK(ssh_lease_place(&c, good, &place, NULL) == 0);
	CHECK_STR(place.dir, "/w/paperclip-01234567-89ab-4cde-8f01-23456789abcd");
	CHECK_STR(place.marker, "/w/.paperclip-01234567-89ab-4cde-8f01-23456789abcd.lease");
	ssh_place_deinit(&place);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK(ssh_lease_place(&c, bad[i], &place, NULL) < 0);
	ssh_config_deinit(&c);
	json_decref(config);
}

/* --- keys --- */

TEST(a_key_is_put_right_and_what_is_none_is_refused)
{
	static const char want[] = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
	static const char *const same[] = {
		want,
		"-----BEGIN OPENSSH PRIVATE KEY-----\r\nAAAA\r\n-----END OPENSSH PRIVATE KEY-----",
		"-----BEGIN OPENSSH PRIVATE KEY----- AAAA -----END OPENSSH PRIVATE KEY-----",
		"-----BEGIN OPENSSH PRIVATE KEY-----\\nAA\\nAA\\n-----END OPENSSH PRIVATE KEY-----\\n",
		"\xef\xbb\xbf \n-----BEGIN OPENSSH PRIVATE KEY-----\n\n  AA\n\tAA\n-----END OPENSSH PRIVATE KEY-----\n\n\n",
	};
	static const char *const none[] = {"", "x", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "ssh-ed25519 AAAA me", "/home/me/.ssh/id",
					   "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"};
	char *key;

	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		CHECK(ssh_key_mend(same[i], &key, NULL) == 0);
		CHECK_STR(key, want);
		free(key);
	}
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
		cleanup_err struct err err = ERR_INIT;
		CHECK(ssh_key_mend(none[i], &key, &err) < 0 && err_is(&err, ERR_INVALID));
	}
}

/* --- what ssh says --- */

TEST(a_text_of_ssh_is_one_line_without_banners_and_private_paths)
{
	cleanup_free char *clean =
		ssh_clean_text("@@@@@@@\r\n@ WARNING @\n\nLoad key \"/proc/7/fd/9\": error\nfirst\r\nOffending key in /tmp/psw-ssh-a/1:3\nsecond\n");

	CHECK_STR(clean, "first second");
}

TEST(failures_are_told_by_kind)
{
	static const struct {
		const char *text;
		enum err_kind kind;
	} rows[] = {
		{"ssh: connect to host h port 22: Connection refused\r\n", ERR_TRANSPORT},
		{"ssh: Could not resolve hostname h: Name or service not known\r\n", ERR_TRANSPORT},
		{"u@h: Permission denied (publickey).\r\n", ERR_AUTH},
		{"No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n", ERR_CONFLICT},
		{"Session open refused by peer", ERR_BUSY},
		{"100%s of something %n new", ERR_TRANSPORT},
		{"", ERR_TRANSPORT},
	};
	json_t *config = config_with("");
	struct ssh_config c;

	ssh_config_parse(config, &c);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		cleanup_err struct err err = ERR_INIT;
		CHECK(ssh_explain(&c, rows[i].text, &err) < 0);
		CHECK_INT(err.kind, rows[i].kind);
		CHECK(strstr(err_text(&err), "u@h.example:22"));
	}
	ssh_config_deinit(&c);
	json_decref(config);
}

/* --- marks --- */

#define NONCE "0123456789abcdef0123456789abcdef"

static int take(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	return buf_append(arg, bytes, n);
}

static void feed(struct ssh_marks *m, const char *text, size_t len, size_t cut)
{
	ssh_marks_feed(m, OUTPUT_STDERR, text, cut, /* may_wait= */ true, NULL);
	ssh_marks_feed(m, OUTPUT_STDERR, text + cut, len - cut, /* may_wait= */ true, NULL);
}

TEST(marks_are_found_wherever_the_stream_is_cut)
{
	static const char text[] = "noise\001B\001Bnot\001B" NONCE ":4711\nout\001\001E\001E0123\n\001E" NONCE "x\001B" NONCE ":1\n\001E" NONCE
				   ":137:-signal\nlater\001E" NONCE ":9\nend\001";
	static const char want[] = "out\001\001E\001E0123\n\001E" NONCE "x\001B" NONCE ":1\nlater\001E" NONCE ":9\nend\001";

	for (size_t cut = 0; cut < sizeof text; cut++) {
		cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
		struct ssh_marks m;

		ssh_marks_init(&m, NONCE, take, &out);
		feed(&m, text, sizeof text - 1, cut < sizeof text ? cut : 0);
		ssh_marks_finish(&m);
		CHECK_INT(m.pid, 4711);
		CHECK_INT(m.code, 137);
		CHECK_STR(m.word, "-signal");
		CHECK_MEM(out.data, out.len, want, sizeof want - 1);
		CHECK_MEM(m.streams[OUTPUT_STDERR].noise.data, m.streams[OUTPUT_STDERR].noise.len, "noise\001B\001Bnot", 12);
		ssh_marks_deinit(&m);
	}
}

TEST(a_mark_that_never_ends_is_output)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED), want = BUF_INIT(BUF_UNBOUNDED);
	struct ssh_marks m;

	ssh_marks_init(&m, NONCE, take, &out);
	ssh_marks_feed(&m, OUTPUT_STDERR, "\001B" NONCE "\n", 35, /* may_wait= */ true, NULL);
	buf_append_str(&want, "\001E" NONCE);
	for (int i = 0; i < 200; i++)
		buf_append_char(&want, '7');
	for (size_t i = 0; i < want.len; i++)
		ssh_marks_feed(&m, OUTPUT_STDERR, want.data + i, 1, /* may_wait= */ true, NULL);
	CHECK(!ssh_marks_have_ended(&m));
	CHECK(m.streams[OUTPUT_STDERR].held.len < 100);
	ssh_marks_finish(&m);
	CHECK_MEM(out.data, out.len, want.data, want.len);
	ssh_marks_deinit(&m);
}

TEST_MAIN()
