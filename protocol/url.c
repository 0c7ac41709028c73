/*
 * The standard's state machine, taken apart: an absolute URL is a scheme, then - for special schemes always, else after "//" - an
 * authority, then path, query and fragment. Each part ends where the first character of the next one stands.
 */
#include "protocol/url.h"

#include "base/mem.h"
#include "base/str.h"
#include "protocol/url_host.h"

#include <ctype.h>
#include <string.h>

static const struct scheme {
	const char *name;
	int port;
} special_schemes[] = {{"http", 80}, {"https", 443}, {"ws", 80}, {"wss", 443}, {"ftp", 21}, {"file", -1}};

static const struct scheme *find_special(const char *scheme)
{
	for (size_t i = 0; i < sizeof(special_schemes) / sizeof(*special_schemes); i++)
		if (strcmp(special_schemes[i].name, scheme) == 0)
			return &special_schemes[i];
	return NULL;
}

/* --- percent-encoding --- */

static void encode_byte(struct buf *out, unsigned char c)
{
	buf_printf(out, "%%%02X", (unsigned)c);
}

/* Controls and bytes beyond ASCII are encoded always; also what the set holds. */
static void encode(struct buf *out, const char *text, size_t len, const char *set)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c <= 0x1F || c >= 0x7F || strchr(set, c))
			encode_byte(out, c);
		else
			buf_append_char(out, text[i]);
	}
}

#define FRAGMENT_SET " \"<>`"
#define QUERY_SET " \"#<>"
#define SPECIAL_QUERY_SET QUERY_SET "'"
#define PATH_SET QUERY_SET "?^`{}"
#define USERINFO_SET PATH_SET "/:;=@[\\]|"

static char *encoded(const char *text, size_t len, const char *set)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	encode(&out, text, len, set);
	return buf_steal(&out);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void url_percent_decode(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%' && len - i > 2 && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
			buf_append_char(out, (char)(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2])));
			i += 2;
		} else {
			buf_append_char(out, text[i]);
		}
	}
}

static void encode_all_but(struct buf *out, const char *text, const char *kept)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr(kept, *text))
			buf_append_char(out, *text);
		else
			encode_byte(out, (unsigned char)*text);
	}
}

void url_encode_component(struct buf *out, const char *text)
{
	encode_all_but(out, text, "-_.!~*'()");
}

static void encode_form(struct buf *out, const char *text)
{
	for (;;) {
		size_t word = strcspn(text, " ");
		cleanup_free char *piece = xstrndup(text, word);

		encode_all_but(out, piece, "*-._");
		if (text[word] == '\0')
			break;
		buf_append_char(out, '+');
		text += word + 1;
	}
}

void url_add_query(struct buf *out, const char *key, const char *value)
{
	buf_append_char(out, out->len && memchr(out->data, '?', out->len) ? '&' : '?');
	encode_form(out, key);
	buf_append_char(out, '=');
	encode_form(out, value);
}

/* --- parsing --- */

/* A copy without blanks and controls at its ends, tabs and line ends anywhere. */
static char *cleaned(const char *text)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	size_t len;

	while (*text && (unsigned char)*text <= ' ')
		text++;
	len = strlen(text);
	while (len > 0 && (unsigned char)text[len - 1] <= ' ')
		len--;
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
			buf_append_char(&out, text[i]);
	return buf_steal(&out);
}

static const char *parse_scheme(const char *text, struct url *u, struct err *err)
{
	size_t len = 0;

	if (!isalpha((unsigned char)*text)) {
		err_set(err, ERR_INVALID, "the URL has no scheme");
		return NULL;
	}
	while (isalnum((unsigned char)text[len]) || (text[len] && strchr("+-.", text[len])))
		len++;
	if (text[len] != ':') {
		err_set(err, ERR_INVALID, "the URL has no scheme");
		return NULL;
	}
	u->scheme = xstrndup(text, len);
	for (char *c = u->scheme; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return text + len + 1;
}

static int parse_port(const char *text, size_t len, const struct scheme *special, struct url *u, struct err *err)
{
	int port = 0;

	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)text[i]))
			return err_set(err, ERR_INVALID, "the URL's port is no number");
		port = port * 10 + (text[i] - '0');
		if (port > 65535)
			return err_set(err, ERR_INVALID, "the URL's port is above 65535");
	}
	if (len > 0 && !(special && special->port == port))
		u->port = port;
	return 0;
}

static const char *last_at(const char *text, size_t len)
{
	while (len > 0 && text[len - 1] != '@')
		len--;
	return len ? text + len - 1 : NULL;
}

/* user:password@host:port */
static int parse_authority(const char *text, size_t len, const struct scheme *special, struct url *u, struct err *err)
{
	const char *at = last_at(text, len), *host = at ? at + 1 : text;
	size_t host_len = (size_t)(text + len - host), colon = 0;
	bool in_brackets = false;

	if (at) {
		const char *password = memchr(text, ':', (size_t)(at - text));
		const char *name_end = password ? password : at;

		u->username = encoded(text, (size_t)(name_end - text), USERINFO_SET);
		if (password)
			u->password = encoded(password + 1, (size_t)(at - password) - 1, USERINFO_SET);
	}
	for (; colon < host_len; colon++) {
		if (host[colon] == ':' && !in_brackets)
			break;
		in_brackets = host[colon] == '[' || (in_brackets && host[colon] != ']');
	}
	bool file = special && special->port < 0;

	if (file && (at || colon < host_len))
		return err_set(err, ERR_INVALID, "the URL's host is not valid");
	if (colon == 0 && !file && (special || at || host_len > 0))
		return err_set(err, ERR_INVALID, "the URL has no host");
	u->host = colon == 0 ? xstrdup("") : url_host_parse(host, colon, special != NULL, err);
	if (!u->host)
		return -1;
	return colon < host_len ? parse_port(host + colon + 1, host_len - colon - 1, special, u, err) : 0;
}

static bool is_dot(const char *s, size_t len)
{
	return (len == 1 && *s == '.') || (len == 3 && strncasecmp(s, "%2e", 3) == 0);
}

static bool is_dot_dot(const char *s, size_t len)
{
	for (size_t first = 1; first <= 3; first += 2)
		if (len > first && is_dot(s, first) && is_dot(s + first, len - first))
			return true;
	return false;
}

static void drop_segment(struct buf *path)
{
	while (path->len > 0 && path->data[path->len - 1] != '/')
		buf_truncate(path, path->len - 1);
	if (path->len > 0)
		buf_truncate(path, path->len - 1);
}

/* Each segment as "/segment", with . and .. resolved. */
static char *parse_path(const char *text, size_t len, bool special)
{
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);
	const char *slashes = special ? "/\\" : "/";
	size_t at = 0;

	if (len == 0)
		return xstrdup(special ? "/" : "");
	if (strchr(slashes, text[0]))
		at = 1;
	for (;;) {
		size_t start = at;

		while (at < len && !strchr(slashes, text[at]))
			at++;
		bool last = at == len, up = is_dot_dot(text + start, at - start);

		if (up)
			drop_segment(&path);
		if (up || is_dot(text + start, at - start)) {
			if (last)
				buf_append_char(&path, '/');
		} else {
			buf_append_char(&path, '/');
			encode(&path, text + start, at - start, PATH_SET);
		}
		if (last)
			break;
		at++;
	}
	return buf_steal(&path);
}

/* "mailto:x": no hierarchy. */
static char *parse_opaque_path(const char *text, size_t len)
{
	return encoded(text, len, "");
}

static void parse_rest(const char *text, bool special, struct url *u)
{
	size_t query = strcspn(text, "?");

	if (text[query] == '?')
		u->query = encoded(text + query + 1, strlen(text + query + 1), special ? SPECIAL_QUERY_SET : QUERY_SET);
}

static int parse_after_scheme(const char *text, struct url *u, struct err *err)
{
	const struct scheme *special = find_special(u->scheme);
	const char *ends = special ? "/\\?" : "/?";
	bool file = special && special->port < 0, hierarchy = special || *text == '/';

	if (special && !file)
		text += strspn(text, "/\\");
	else if (strncmp(text, "//", 2) == 0 || (file && strspn(text, "/\\") >= 2))
		text += 2;
	else
		ends = NULL; /* no authority */
	if (ends) {
		size_t len = strcspn(text, ends);

		if (parse_authority(text, len, special, u, err) < 0)
			return -1;
		text += len;
	} else if (file) {
		u->host = xstrdup("");
	}
	size_t path = strcspn(text, "?");

	u->path = hierarchy ? parse_path(text, path, special) : parse_opaque_path(text, path);
	parse_rest(text, special, u);
	return 0;
}

int url_parse(const char *text, struct url *ret, struct err *err)
{
	cleanup_free char *clean = cleaned(text);
	char *fragment = strchr(clean, '#');

	*ret = (struct url){.port = -1};
	if (fragment) {
		*fragment++ = '\0';
		ret->fragment = encoded(fragment, strlen(fragment), FRAGMENT_SET);
	}
	const char *rest = parse_scheme(clean, ret, err);

	if (!rest || parse_after_scheme(rest, ret, err) < 0) {
		url_deinit(ret);
		return -1;
	}
	if (!ret->username)
		ret->username = xstrdup("");
	if (!ret->password)
		ret->password = xstrdup("");
	return 0;
}

void url_deinit(struct url *u)
{
	if (!u)
		return;
	str_wipe_free(u->password);
	free(u->scheme);
	free(u->username);
	free(u->host);
	free(u->path);
	free(u->query);
	free(u->fragment);
	*u = (struct url){.port = -1};
}

/* --- looking at one --- */

int url_effective_port(const struct url *u)
{
	const struct scheme *special = find_special(u->scheme);

	return u->port < 0 && special ? special->port : u->port;
}

char *url_host_port(const struct url *u)
{
	const char *host = u->host ? u->host : "";

	return u->port < 0 ? xstrdup(host) : xasprintf("%s:%d", host, u->port);
}

char *url_origin(const struct url *u)
{
	cleanup_free char *host = url_host_port(u);

	return xasprintf("%s://%s", u->scheme, host);
}

char *url_target(const struct url *u)
{
	cleanup_free char *origin = url_origin(u);

	return xasprintf("%s%s%s%s", origin, u->path, u->query ? "?" : "", u->query ? u->query : "");
}

bool url_same_origin(const struct url *a, const struct url *b)
{
	return strcmp(a->scheme, b->scheme) == 0 && str_eq(a->host, b->host) && url_effective_port(a) == url_effective_port(b);
}

bool url_is_loopback(const struct url *u)
{
	if (!u->host)
		return false;
	/* A parsed host that starts like this and ends in a digit is an IPv4 address, in four plain numbers. */
	if (str_starts_with(u->host, "127."))
		return isdigit((unsigned char)u->host[strlen(u->host) - 1]);
	return strcmp(u->host, "localhost") == 0 || strcmp(u->host, "[::1]") == 0;
}
