#include "base/str.h"
#include "http.h"
#include "secret.h"
#include "tap.h"

static json_t *parse(const char *json)
{
	return json_loads(json, 0, NULL);
}

TEST(options_are_read_from_a_drivers_config)
{
	static const struct {
		const char *config, *proxy, *credentials, *ca_file;
	} cases[] = {
		{"{}", NULL, NULL, NULL},
		{"{\"proxyUrl\":null,\"proxyCredentials\":\" \",\"caFile\":\"\"}", NULL, NULL, NULL},
		{"{\"proxyUrl\":\" http://proxy.corp:3128/ \",\"caFile\":\" /etc/corp.pem \"}", "http://proxy.corp:3128", NULL, "/etc/corp.pem"},
		{"{\"proxyUrl\":\"HTTP://Proxy.Corp\"}", "http://proxy.corp:80", NULL, NULL},
		{"{\"proxyUrl\":\"https://proxy.corp\"}", "https://proxy.corp:443", NULL, NULL},
		{"{\"proxyUrl\":\"socks5h://proxy.corp\"}", "socks5h://proxy.corp:1080", NULL, NULL},
		{"{\"proxyUrl\":\"http://u%40x:p%3Aw@proxy.corp:1\"}", "http://proxy.corp:1", "u@x:p:w", NULL},
		{"{\"proxyUrl\":\"http://u:old@proxy.corp:1\",\"proxyCredentials\":\"u:new-secret\"}", "http://proxy.corp:1", "u:new-secret", NULL},
		{"{\"proxyUrl\":\"http://[::1]:1\"}", "http://[::1]:1", NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_json json_t *config = parse(cases[i].config);
		cleanup_strv struct strv errors = {0};
		struct http_options options;

		CHECK_INT(http_options_read(config, &options, NULL), 0);
		CHECK_STR(options.proxy_url, cases[i].proxy);
		CHECK_STR(options.proxy_credentials, cases[i].credentials);
		CHECK_STR(options.ca_file, cases[i].ca_file);
		http_options_deinit(&options);
		http_options_validate(config, &errors);
		CHECK_INT(errors.count, 0);
	}
	secret_forget();
}

TEST(wrong_options_are_errors_that_do_not_show_secrets)
{
	static const char proxy[] = "proxyUrl must be a URL like http://proxy.example:3128 (http, https, socks5 or socks5h).";
	static const char *const cases[][2] = {
		{"{\"proxyUrl\":\"proxy.corp:3128\"}", proxy},
		{"{\"proxyUrl\":\"ftp://u:secret@proxy.corp\"}", proxy},
		{"{\"proxyUrl\":\"http://\"}", proxy},
		{"{\"proxyUrl\":\"socks5://\"}", proxy},
		{"{\"proxyUrl\":\"http://proxy.corp/path\"}", "proxyUrl must hold no path."},
		{"{\"proxyUrl\":\"http://proxy.corp/?x\"}", "proxyUrl must hold no path."},
		{"{\"proxyUrl\":5}", "proxyUrl must be a string."},
		{"{\"proxyCredentials\":\"secret\"}", "proxyCredentials must be user:password."},
		{"{\"caFile\":\"corp.pem\"}", "caFile must be an absolute path."},
		{"{\"caFile\":true}", "caFile must be a string."},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_json json_t *config = parse(cases[i][0]);
		cleanup_strv struct strv errors = {0};
		cleanup_err struct err err = ERR_INIT;
		struct http_options options;

		CHECK_INT(http_options_read(config, &options, &err), -1);
		CHECK(err_is(&err, ERR_INVALID));
		CHECK_STR(err_text(&err), cases[i][1]);
		http_options_validate(config, &errors);
		CHECK(errors.count == 1);
		CHECK_STR(strv_list(&errors)[0], cases[i][1]);
	}
}

TEST(all_wrong_options_are_reported)
{
	cleanup_json json_t *config = parse("{\"proxyUrl\":1,\"proxyCredentials\":2,\"caFile\":3}");
	cleanup_strv struct strv errors = {0};

	http_options_validate(config, &errors);
	CHECK_INT(errors.count, 3);
}

TEST(the_normalised_config_has_only_the_keys_that_are_set)
{
	cleanup_json json_t *config = parse("{\"proxyUrl\":\" http://proxy.corp:3128 \",\"proxyCredentials\":null,\"caFile\":\"\",\"other\":1}");
	cleanup_json json_t *normalized = json_object(), *want = parse("{\"proxyUrl\":\"http://proxy.corp:3128\"}");

	http_options_normalize(config, normalized);
	CHECK(json_equal(normalized, want));
}

TEST(a_proxys_credentials_are_held_as_a_secret)
{
	cleanup_json json_t *config = parse("{\"proxyUrl\":\"http://user:hunter22@proxy.corp\"}");
	cleanup_buf struct buf masked = BUF_INIT(BUF_UNBOUNDED);
	struct http_options options;

	CHECK_INT(http_options_read(config, &options, NULL), 0);
	CHECK(secret_mask("with user:hunter22 refused", 26, &masked));
	CHECK_STR(masked.data, "with *** refused");
	http_options_deinit(&options);
	secret_forget();
}

TEST_MAIN()
