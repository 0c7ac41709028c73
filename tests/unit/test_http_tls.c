#include "http_internal.h"
#include "http_test.h"

#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* --- names, under the test's control --- */

/* Stands before libc's for the whole program: "slow.test" is looked up for ever, "service.test" is this machine. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	struct addrinfo *info;
	struct sockaddr_in *address;

	(void)hints;
	if (node && strcmp(node, "slow.test") == 0)
		sleep(3);
	if (!node || strcmp(node, "service.test") != 0)
		return EAI_NONAME;
	info = calloc(1, sizeof(*info) + sizeof(*address));
	if (!info)
		return EAI_MEMORY;
	address = (struct sockaddr_in *)(void *)(info + 1);
	address->sin_family = AF_INET;
	address->sin_port = htons((uint16_t)strtol(service ? service : "0", NULL, 10));
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*info = (struct addrinfo){
		.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_addrlen = sizeof(*address), .ai_addr = (struct sockaddr *)address};
	*ret = info;
	return 0;
}

void freeaddrinfo(struct addrinfo *info)
{
	free(info);
}

/* --- calls --- */

static char *request(const char *url, json_t *config, struct err *err)
{
	struct http_options options;
	char *body = NULL;

	if (http_options_read(config, &options, err) == 0)
		body = perform(&(struct http_request){.url = url, .options = &options, .retry.repeat = HTTP_REPEAT_NEVER,
						      .deadlines = {.connect_ms = 5000, .total_ms = 60000}}, err);
	http_options_deinit(&options);
	json_decref(config);
	return body;
}

static json_t *with_ca(void)
{
	return json_pack("{s:s}", "caFile", stub_path("ca"));
}

/* prefix: "http://", perhaps with credentials. */
static json_t *with_proxy(const char *prefix, const char *name)
{
	cleanup_free char *proxy = xasprintf("%s127.0.0.1:%d", prefix, stub_port(name));

	return json_pack("{s:s, s:s}", "caFile", stub_path("ca"), "proxyUrl", proxy);
}

/* wants: how the error begins, with %d for the port of `server`. */
static void check_refused(const char *server, json_t *config, const char *wants)
{
	cleanup_free char *url = stub_url(server, "/ok"), *where = xasprintf("127.0.0.1:%d", stub_port(server));
	cleanup_free char *want = xasprintf("the TLS certificate of %s is %s", where, wants);
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = request(url, config, &err);

	CHECK(!body);
	CHECK_INT(err.kind, ERR_TRANSPORT);
	CHECK_STR(err_text(&err), want);
}

HTTP_TEST(a_certificate_of_a_further_ca_is_trusted)
{
	cleanup_free char *url = stub_url("https", "/ok"), *by_name = xasprintf("https://localhost:%d/ok", stub_port("https"));
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = request(url, with_ca(), &err), *named = request(by_name, with_ca(), &err);

	CHECK_STR(err_text(&err), "no error");
	CHECK_STR(body, "ok");
	CHECK_STR(named, "ok");
}

HTTP_TEST(other_certificates_are_refused_with_the_reason)
{
	static const char unknown[] = "not trusted: its CA is not known here (UNABLE_TO_GET_ISSUER_CERT_LOCALLY); if a service or proxy of your own "
				      "issued it, name its CA in caFile";

	check_refused("https", json_object(), unknown);
	check_refused("https", json_pack("{s:s}", "caFile", stub_path("other_ca")), unknown);
	check_refused("expired", with_ca(), "not trusted: it has expired (CERT_HAS_EXPIRED)");
	check_refused("wrong_name", with_ca(), "for another name (ERR_TLS_CERT_ALTNAME_INVALID)");
	check_refused("self_signed", with_ca(),
		      "not trusted: it is self-signed (DEPTH_ZERO_SELF_SIGNED_CERT); if that is right, name it in caFile");
}

HTTP_TEST(a_refused_certificate_means_that_nothing_was_sent_and_is_not_tried_again)
{
	cleanup_free char *url = stub_url("expired", "/ok");
	cleanup_http_response struct http_response r = {0};

	CHECK_INT(http_perform(client, &(struct http_request){.method = "POST", .url = url, .retry.repeat = HTTP_REPEAT_IDEMPOTENT}, &r, NULL), -1);
	CHECK(!r.sent && r.attempts == 1 && r.status == 0);
}

HTTP_TEST(options_of_one_environment_do_not_open_connections_of_another)
{
	cleanup_free char *url = stub_url("https", "/ok");
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *trusted = request(url, with_ca(), NULL), *again = request(url, with_ca(), NULL);
	cleanup_free char *untrusted = request(url, json_object(), &err);

	CHECK(trusted && again && !untrusted);
	CHECK_INT(http_client_stats(client).connections, 2);
}

HTTP_TEST(a_plain_server_behind_https_is_an_error)
{
	cleanup_free char *url = xasprintf("https://127.0.0.1:%d/ok", stub_port("http")), *want = xasprintf("no TLS with 127.0.0.1:%d: ", stub_port("http"));
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = request(url, with_ca(), &err);

	CHECK(!body && str_starts_with(err_text(&err), want));
}

/* --- proxies --- */

HTTP_TEST(a_proxy_opens_the_tunnel)
{
	cleanup_free char *url = xasprintf("https://service.test:%d/ok", stub_port("https"));
	cleanup_free char *count_url = stub_url("http", "/count/proxied");
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *before = request(count_url, json_object(), NULL), *body = request(url, with_proxy("http://", "proxy"), &err);
	cleanup_free char *after = request(count_url, json_object(), NULL);

	CHECK_STR(err_text(&err), "no error");
	CHECK_STR(body, "ok");
	CHECK_INT(strtol(after, NULL, 10), strtol(before, NULL, 10) + 1);
}

HTTP_TEST(a_proxys_credentials_come_from_the_url_or_a_key_of_their_own)
{
	cleanup_free char *url = xasprintf("https://service.test:%d/ok", stub_port("https"));
	cleanup_err struct err err = ERR_INIT;
	json_t *config = with_proxy("http://", "proxy_auth");

	json_object_set_new(config, "proxyCredentials", json_string("user:p@ss word"));
	cleanup_free char *in_url = request(url, with_proxy("http://user:p%40ss%20word@", "proxy_auth"), &err);
	cleanup_free char *in_key = request(url, config, &err);

	CHECK_STR(err_text(&err), "no error");
	CHECK(in_url && in_key);
}

static void check_proxy_fails(const char *host, json_t *config, const char *format, int port)
{
	cleanup_free char *url = xasprintf("https://%s/ok?key=secret", host), *mark = xasprintf("%d", port);
	cleanup_buf struct buf want = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = request(url, config, &err);
	const char *at = strstr(format, "PORT");

	buf_append(&want, format, at ? (size_t)(at - format) : strlen(format));
	if (at)
		buf_printf(&want, "%s%s", mark, at + 4);
	CHECK(!body);
	CHECK_INT(err.kind, ERR_TRANSPORT);
	CHECK_STR(err_text(&err), want.data);
}

HTTP_TEST(a_proxy_that_refuses_is_named_with_the_reason)
{
	int proxy = stub_port("proxy"), auth = stub_port("proxy_auth"), refused = stub_port("refused");

	check_proxy_fails("forbidden.test", with_proxy("http://", "proxy"),
			  "the proxy http://127.0.0.1:PORT answered HTTP 403 instead of opening a tunnel to forbidden.test: it does not allow this host", proxy);
	check_proxy_fails("broken.test", with_proxy("http://", "proxy"),
			  "the proxy http://127.0.0.1:PORT answered HTTP 502 instead of opening a tunnel to broken.test", proxy);
	check_proxy_fails("service.test", with_proxy("http://user:wrong-secret@", "proxy_auth"),
			  "the proxy http://127.0.0.1:PORT answered HTTP 407 instead of opening a tunnel to service.test: it asks for other "
			  "credentials (proxyCredentials)", auth);
	cleanup_free char *text = xasprintf("connect ECONNREFUSED 127.0.0.1:%d (proxy http://127.0.0.1:%d, on the way to service.test)", refused, refused);

	check_proxy_fails("service.test", with_proxy("http://", "refused"), text, refused);
	check_proxy_fails("service.test", json_pack("{s:s}", "proxyUrl", "http://nowhere.test:3128"),
			  "getaddrinfo ENOTFOUND: the name of the proxy http://nowhere.test:3128 is not known", 0);
}

HTTP_TEST(this_machines_addresses_are_never_asked_from_a_proxy)
{
	cleanup_free char *url = stub_url("https", "/ok"), *plain = stub_url("http", "/ok");
	cleanup_free char *body = request(url, with_proxy("http://", "refused"), NULL);
	cleanup_free char *plain_body = request(plain, with_proxy("http://", "refused"), NULL);

	CHECK_STR(body, "ok");
	CHECK_STR(plain_body, "ok");
}

HTTP_TEST(the_environments_proxies_mean_nothing)
{
	cleanup_free char *url = xasprintf("https://service.test:%d/ok", stub_port("https")), *proxy = xasprintf("http://127.0.0.1:%d", stub_port("refused"));
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"};
	cleanup_err struct err err = ERR_INIT;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		setenv(names[i], proxy, 1);
	setenv("no_proxy", "service.test", 1);
	cleanup_free char *direct = request(url, with_ca(), &err), *through = request(url, with_proxy("http://", "proxy"), &err);

	CHECK_STR(direct, "ok");
	CHECK_STR(through, "ok");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		unsetenv(names[i]);
	unsetenv("no_proxy");
}

/* --- names --- */

HTTP_TEST(an_unknown_name_is_an_error_that_names_it)
{
	cleanup_err struct err err = ERR_INIT;
	cleanup_free char *body = request("https://nowhere.test/x?key=secret", with_ca(), &err);

	CHECK(!body && err_is(&err, ERR_TRANSPORT));
	CHECK_STR(err_text(&err), "getaddrinfo ENOTFOUND nowhere.test: is the name right, and does this machine have network?");
}

HTTP_TEST(a_name_that_takes_long_delays_neither_the_deadline_nor_others)
{
	cleanup_err struct err err = ERR_INIT;
	struct fiber_scope scope;
	int64_t start = loop_now_ms();

	deadline_enter(&scope, 100);
	cleanup_free char *body = request("https://slow.test/", with_ca(), &err);

	scope_leave(&scope);
	CHECK(!body && err_is(&err, ERR_TIMEOUT));
	CHECK_STR(err_text(&err), "no complete answer from slow.test before the deadline");
	/* The look-up itself goes on for seconds. */
	fiber_yield(NULL);
	CHECK(loop_now_ms() - start < 2500);
}

/* --- which certificates are trusted --- */

static void write_file(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

TEST(the_first_store_that_is_there_counts)
{
	cleanup_free char *dir = xstrdup("/tmp/http trust XXXXXX");

	CHECK(mkdtemp(dir));
	cleanup_free char *missing = xasprintf("%s/missing", dir), *empty = xasprintf("%s/empty", dir), *good = xasprintf("%s/good", dir);
	const char *candidates[] = {"", missing, dir, empty, good, stub_path("ca"), NULL}, *none[] = {missing, empty, NULL};
	cleanup_err struct err err = ERR_INIT;
	struct http_trust trust;

	write_file(empty, "");
	write_file(good, "-----BEGIN CERTIFICATE-----\n");
	http_trust_init(&trust, candidates);
	CHECK_STR(http_trust_file(&trust, NULL, NULL), good);
	http_trust_deinit(&trust);
	http_trust_init(&trust, none);
	CHECK(!http_trust_file(&trust, NULL, &err));
	CHECK_STR(err_text(&err), "no CA certificates were found on this machine: install them (package ca-certificates), or name a file of them in caFile");
	CHECK(http_trust_file(&trust, stub_path("ca"), NULL));
	http_trust_deinit(&trust);
	unlink(empty);
	unlink(good);
	rmdir(dir);
}

TEST(further_certificates_are_added_once_for_each_file)
{
	cleanup_free char *path = xstrdup("/tmp/http ca XXXXXX");
	int fd = mkstemp(path);
	const char *candidates[] = {stub_path("ca"), NULL};
	struct http_trust trust;
	struct stat system, own, joined;

	close(fd);
	write_file(path, "-----BEGIN CERTIFICATE-----\nA\n");
	http_trust_init(&trust, candidates);
	const char *first = http_trust_file(&trust, path, NULL), *second = http_trust_file(&trust, path, NULL);

	CHECK(first && first == second);
	CHECK(stat(candidates[0], &system) == 0 && stat(path, &own) == 0 && stat(first, &joined) == 0);
	CHECK_INT(joined.st_size, system.st_size + own.st_size + 2);
	write_file(path, "-----BEGIN CERTIFICATE-----\nBB\n");
	const char *changed = http_trust_file(&trust, path, NULL);

	CHECK(changed && changed != first);
	http_trust_deinit(&trust);
	unlink(path);
}

TEST(files_that_hold_no_certificates_are_refused)
{
	cleanup_free char *path = xstrdup("/tmp/http ca XXXXXX");
	int fd = mkstemp(path);
	const char *candidates[] = {stub_path("ca"), NULL};
	cleanup_err struct err missing = ERR_INIT, directory = ERR_INIT;
	struct http_trust trust;

	close(fd);
	cleanup_free char *no_pem_text = xasprintf("%s holds no certificate in PEM form", path);
	static const char *const contents[] = {"", "no PEM"};

	http_trust_init(&trust, candidates);
	for (size_t i = 0; i < 2; i++) {
		cleanup_err struct err err = ERR_INIT;

		write_file(path, contents[i]);
		CHECK(!http_trust_file(&trust, path, &err));
		CHECK_STR(err_text(&err), no_pem_text);
	}
	CHECK(!http_trust_file(&trust, "/nowhere/ca.pem", &missing));
	CHECK_STR(err_text(&missing), "the CA certificates in /nowhere/ca.pem cannot be read: No such file or directory");
	CHECK(!http_trust_file(&trust, "/tmp", &directory));
	CHECK_STR(err_text(&directory), "the CA certificates in /tmp cannot be read: Is a directory");
	http_trust_deinit(&trust);
	unlink(path);
}

TEST(the_systems_stores_are_looked_for_in_the_documented_order)
{
	setenv("SSL_CERT_FILE", "/own/store.pem", 1);
	const char *const *paths = http_trust_system_candidates();

	CHECK_STR(paths[0], "/own/store.pem");
	CHECK_STR(paths[1], "/etc/ssl/certs/ca-certificates.crt");
	CHECK(str_ends_with(paths[6], "/tests/unit/ca-certificates.crt"));
	CHECK(!paths[7]);
	unsetenv("SSL_CERT_FILE");
	CHECK_STR(http_trust_system_candidates()[0], "");
}

TEST_MAIN()
