/*
 * url: absolute URLs as browsers and Node parse them (WHATWG URL, "basic URL parser" without a base; wire: cloudflare, The URL check;
 * wire: daytona, Config), and percent-encoding for building them.
 *
 * Short of the standard: names outside ASCII are mapped by the common rules (case of Latin, Greek and Cyrillic, full-width forms,
 * invisible characters) before they become punycode, not by all of Unicode's tables; a file URL's drive letters mean nothing.
 */
#ifndef PROTOCOL_URL_H
#define PROTOCOL_URL_H

#include "base/buf.h"
#include "base/err.h"

struct url {
	char *scheme;   /* owned, like all of these; lower case */
	char *username; /* "": none; percent-encoded */
	char *password;
	char *host;     /* serialised: lower case, "127.0.0.1" for 127.1, "[::1]"; NULL: none ("data:x") */
	int port;       /* -1: none, or the scheme's own */
	char *path;     /* as it is sent */
	char *query;    /* without its ?; NULL: none */
	char *fragment; /* without its #; NULL: none */
};

/* -1, ERR_INVALID: no valid absolute URL; the text says why and never quotes the URL. */
int url_parse(const char *text, struct url *ret, struct err *err);
/* Takes NULL and zeroed values. */
void url_deinit(struct url *u);
#define cleanup_url cleanup(url_deinit)

/* The URL as text (owned by the caller), without credentials and fragment: what a request goes to. */
char *url_target(const struct url *u);
/* "https://host:8443": what may be shown to people. Owned by the caller. */
char *url_origin(const struct url *u);
/* "host" or "host:8443". Owned by the caller. */
char *url_host_port(const struct url *u);
/* The port that is connected to; -1: the scheme has none. */
int url_effective_port(const struct url *u);
bool url_same_origin(const struct url *a, const struct url *b);
/* localhost, 127.0.0.0/8 or [::1], as parsed. */
bool url_is_loopback(const struct url *u);

/* Appends text as JavaScript's encodeURIComponent does: for a path segment. */
void url_encode_component(struct buf *out, const char *text);
/* Appends "key=value" form-encoded (URLSearchParams; a blank becomes +), with ? or & before it as `out` needs. */
void url_add_query(struct buf *out, const char *key, const char *value);
/* Appends the text with each %XX decoded; malformed ones stay. */
void url_percent_decode(struct buf *out, const char *text, size_t len);

#endif
