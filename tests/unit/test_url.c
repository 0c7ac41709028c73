#include "protocol/url.h"
#include "tap.h"

#include <string.h>

struct parse_case {
	const char *text;
	const char *want; /* origin and target's rest, as "scheme://host[:port]/path?query"; NULL: no valid URL */
};

static void check_parse(const struct parse_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cleanup_err struct err err = ERR_INIT;
		struct url u;
		int rc = url_parse(cases[i].text, &u, &err);
		cleanup_free char *target = rc == 0 ? url_target(&u) : NULL;

		if (rc < 0)
			CHECK(err_is(&err, ERR_INVALID) && !u.scheme && !u.host);
		if (cases[i].want ? !target || strcmp(target, cases[i].want) != 0 : target != NULL)
			tap_fail(__FILE__, __LINE__, "<%s>: got <%s>, want <%s>", cases[i].text, target ? target : "invalid",
				 cases[i].want ? cases[i].want : "invalid");
		url_deinit(&u);
	}
}
#define CHECK_PARSE(cases) check_parse(cases, sizeof(cases) / sizeof(*(cases)))

/* "https": passes; "http": passes as it is the parsed host localhost or 127.0.0.1; "other": parses; "invalid": does not. */
static const char *verdict(const char *text)
{
	struct url u;
	const char *got = "other";

	if (url_parse(text, &u, NULL) < 0)
		return "invalid";
	if (strcmp(u.scheme, "https") == 0)
		got = "https";
	else if (strcmp(u.scheme, "http") == 0 && (strcmp(u.host, "localhost") == 0 || strcmp(u.host, "127.0.0.1") == 0))
		got = "http";
	url_deinit(&u);
	return got;
}

/* wire: cloudflare, The URL check */
TEST(recorded_verdicts_of_the_url_check)
{
	static const char *const cases[][2] = {
		{"https://b.example", "https"}, {"HTTPS://B.Example:8443/p/", "https"}, {"http://localhost", "http"},
		{"http://LOCALHOST:8787/", "http"}, {"http://127.0.0.1:8787", "http"}, {"http://127.1", "http"},
		{"http://2130706433/", "http"}, {"http://0x7f.0.0.1", "http"}, {"https:b.example", "https"}, {"https:/b.example", "https"},
		{"https:\\\\b.example", "https"}, {"http://lo\tcalhost", "http"}, {"https://b\xC3\xBC" "cher.example", "https"},
		{"https://user:pw@b.example", "https"}, {"https://b.example/?x=1#y", "https"},
		{"http://[::1]:8787", "other"}, {"http://127.0.0.2", "other"}, {"http://0.0.0.0:1", "other"}, {"http://localhost.", "other"},
		{"http://sub.localhost", "other"}, {"http://localhost.evil.example", "other"}, {"http://localhost@evil.example", "other"},
		{"http://evil.example#localhost", "other"}, {"ftp://b.example", "other"}, {"ws://localhost", "other"},
		{"localhost:8787", "other"}, {"javascript:alert(1)", "other"},
		{"b.example", "invalid"}, {"/relative", "invalid"}, {"//b.example", "invalid"}, {"https://", "invalid"},
		{"https://b example", "invalid"}, {"https://b.example:99999", "invalid"}, {"https://[::1", "invalid"}, {"https://%zz", "invalid"},
		/* wire: daytona, Config */
		{"not-a-url", "invalid"}, {"app.daytona.io/api", "invalid"}, {"::", "invalid"}, {"http://", "invalid"}, {"//h", "invalid"},
		{"ftp://h", "other"}, {"localhost:3000", "other"}, {"", "invalid"}, {"https:", "invalid"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		CHECK_STR(verdict(cases[i][0]), cases[i][1]);
}

/* Expected texts: what Node's URL gives. */
TEST(urls_are_normalised_as_in_javascript)
{
	static const struct parse_case cases[] = {
		{" \x01https://H.Example:443/a/../b/./c?q=1#f \n", "https://h.example/b/c?q=1"},
		{"http://h:80", "http://h/"},
		{"http://h:8080", "http://h:8080/"},
		{"http://h:", "http://h/"},
		{"http://h?x y'\"", "http://h/?x%20y%27%22"},
		{"http://h/a b%20\"<>`{}/%2e%2E/c", "http://h/c"},
		{"http://h/\xC3\xA9?\xC3\xA9", "http://h/%C3%A9?%C3%A9"},
		{"http://h/a/..", "http://h/"},
		{"http://h/..", "http://h/"},
		{"http://h//a", "http://h//a"},
		{"http:\\\\h\\a\\b", "http://h/a/b"},
		{"http:///h/a", "http://h/a"},
		{"http://u:p@h:1/x", "http://h:1/x"},
		{"http://a@b@h/", "http://h/"},
		{"http://@h/", "http://h/"},
		{"http://u@/", NULL},
		{"http://h:8a/", NULL},
		{"http://h:65535/", "http://h:65535/"},
		{"http://h:65536/", NULL},
		{"http://:80/", NULL},
		{"foo://h:80/a b", "foo://h:80/a%20b"},
		{"foo://H%zz/", "foo://H%zz/"},
		{"foo://h h/", NULL},
		{"1http://h", NULL},
		{"http//h", NULL},
	};

	CHECK_PARSE(cases);
}

TEST(ipv4_addresses_in_all_their_forms)
{
	static const struct parse_case cases[] = {
		{"http://1.2.3", "http://1.2.0.3/"}, {"http://0300.0x10.1", "http://192.16.0.1/"}, {"http://4294967295", "http://255.255.255.255/"},
		{"http://4294967296", NULL}, {"http://1.2.3.256", NULL}, {"http://256.2.3.4", NULL}, {"http://1.2.3.4.", "http://1.2.3.4/"},
		{"http://1.2.3.4.5", NULL}, {"http://1..2", NULL}, {"http://08", NULL}, {"http://0x", "http://0.0.0.0/"}, {"http://a.1", NULL},
		{"http://1.a", "http://1.a/"}, {"http://0xg", "http://0xg/"}, {"http://\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.1", "http://127.0.0.1/"},
		{"http://%31%32%37.1", "http://127.0.0.1/"}, {"http://99999999999999999999999", NULL},
	};

	CHECK_PARSE(cases);
}

TEST(ipv6_addresses_are_shortened)
{
	static const struct parse_case cases[] = {
		{"http://[::1]", "http://[::1]/"}, {"http://[0:0:0:0:0:0:0:1]:80", "http://[::1]/"}, {"http://[1:0:0:2:0:0:0:3]", "http://[1:0:0:2::3]/"},
		{"http://[1:2:3:4:5:6:7:8]", "http://[1:2:3:4:5:6:7:8]/"}, {"http://[1:2:3:4:5:6:7::]", "http://[1:2:3:4:5:6:7:0]/"},
		{"http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]/"}, {"http://[1:2:3:4:5:6:1.2.3.4]", "http://[1:2:3:4:5:6:102:304]/"},
		{"http://[::]", "http://[::]/"}, {"http://[ABCD::]", "http://[abcd::]/"}, {"http://[]", NULL}, {"http://[:]", NULL}, {"http://[:::]", NULL},
		{"http://[1:]", NULL}, {"http://[1:2]", NULL}, {"http://[1::2::3]", NULL}, {"http://[12345::]", NULL}, {"http://[::1.2.3]", NULL},
		{"http://[::1.2.3.256]", NULL}, {"http://[::1.2.3.04]", NULL}, {"http://[1:2:3:4:5:6:7:1.2.3.4]", NULL}, {"http://[::g]", NULL},
		{"http://[1:2:3:4:5:6:7:8:9]", NULL}, {"http://[::1]x", NULL}, {"http://[::1%25eth0]", NULL}, {"http://[1:2:3:4::5:6:7:8]", NULL},
	};

	CHECK_PARSE(cases);
}

TEST(names_beyond_ascii_become_punycode)
{
	static const struct parse_case cases[] = {
		{"https://b\xC3\xBC" "cher.example", "https://xn--bcher-kva.example/"},
		{"https://B\xC3\x9C" "CHER.Example", "https://xn--bcher-kva.example/"},
		{"https://\xE4\xBE\x8B\xE3\x81\x88\xE3\x80\x82\xE3\x83\x86\xE3\x82\xB9\xE3\x83\x88", "https://xn--r8jz45g.xn--zckzah/"},
		{"https://\xF0\x9F\x98\x80.example", "https://xn--e28h.example/"},
		{"https://\xD0\x9F\xD1\x80.example", "https://xn--o1ac.example/"},
		{"https://a\xC2\xAD" "b.example", "https://ab.example/"},
		{"https://\xC2\xAD", NULL},
		{"https://a\xEF\xBF\xBD" "b", NULL},
		{"https://a\xFF" "b", NULL},
		{"https://%C3%BC.example", "https://xn--tda.example/"},
		{"https://\xEF\xBD\x8C\xEF\xBD\x8F.example", "https://lo.example/"},
	};

	CHECK_PARSE(cases);
}

TEST(an_endless_name_is_refused_quickly)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct url u;

	buf_append_str(&text, "https://");
	for (int i = 0; i < 200000; i++)
		buf_append_str(&text, "\xC3\xBC");
	CHECK_INT(url_parse(text.data, &u, NULL), -1);
	url_deinit(&u);
}

TEST(loopback_is_judged_by_the_parsed_host)
{
	static const struct {
		const char *text;
		bool want;
	} cases[] = {
		{"http://localhost:1", true}, {"http://LOCALHOST", true}, {"http://127.0.0.2", true}, {"http://127.1", true},
		{"http://127.255.255.255", true}, {"http://[::1]", true}, {"http://[0::1]:1", true}, {"http://127.0.0.1.example", false},
		{"http://127.evil", false}, {"http://localhost.", false}, {"http://sub.localhost", false}, {"http://[::ffff:127.0.0.1]", false},
		{"http://128.0.0.1", false}, {"http://0.0.0.0", false}, {"http://localhost@evil.example", false}, {"data:127.0.0.1", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct url u;

		CHECK_INT(url_parse(cases[i].text, &u, NULL), 0);
		CHECK_INT(url_is_loopback(&u), cases[i].want);
		url_deinit(&u);
	}
}

static bool same_origin(const char *a, const char *b)
{
	struct url u, v;

	url_parse(a, &u, NULL);
	url_parse(b, &v, NULL);
	bool same = url_same_origin(&u, &v);

	url_deinit(&u);
	url_deinit(&v);
	return same;
}

TEST(origins_are_scheme_host_and_port)
{
	CHECK(same_origin("https://H/a", "https://h:443/b"));
	CHECK(!same_origin("https://h", "http://h"));
	CHECK(!same_origin("https://h", "https://h:444"));
	CHECK(!same_origin("https://h", "https://i"));
	CHECK(!same_origin("https://h", "https://h."));
}

TEST(the_origin_shows_no_credentials_path_or_query)
{
	struct url u;

	CHECK_INT(url_parse("https://user:secret@h:8443/p/token?key=secret#f", &u, NULL), 0);
	cleanup_free char *origin = url_origin(&u), *host = url_host_port(&u), *target = url_target(&u);

	CHECK_STR(origin, "https://h:8443");
	CHECK_STR(host, "h:8443");
	CHECK_STR(target, "https://h:8443/p/token?key=secret");
	CHECK_STR(u.username, "user");
	CHECK_STR(u.password, "secret");
	CHECK_STR(u.fragment, "f");
	url_deinit(&u);
}

/* wire: cloudflare, Requests; wire: daytona, The two HTTP services */
TEST(components_and_queries_are_encoded_as_in_javascript)
{
	cleanup_buf struct buf segment = BUF_INIT(BUF_UNBOUNDED), url = BUF_INIT(BUF_UNBOUNDED), plain = BUF_INIT(BUF_UNBOUNDED);

	url_encode_component(&segment, "a/b c%d?e#\xC3\xBC'()*~!");
	CHECK_STR(segment.data, "a%2Fb%20c%25d%3Fe%23%C3%BC'()*~!");
	buf_append_str(&url, "https://h/files");
	url_add_query(&url, "path", "/home/a b+c~*-._'");
	url_add_query(&url, "mode", "755");
	CHECK_STR(url.data, "https://h/files?path=%2Fhome%2Fa+b%2Bc%7E*-._%27&mode=755");
	url_percent_decode(&plain, "a%2fb%zz%4", 10);
	CHECK_STR(plain.data, "a/b%zz%4");
}

TEST_MAIN()
