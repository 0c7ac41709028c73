/* url_host: the host of a URL (WHATWG URL, "Hosts"). For url.c. */
#ifndef PROTOCOL_URL_HOST_H
#define PROTOCOL_URL_HOST_H

#include "base/buf.h"
#include "base/err.h"

/* The host as it is serialised, owned by the caller; NULL with ERR_INVALID. special: of a scheme like https. */
char *url_host_parse(const char *text, size_t len, bool special, struct err *err);
/* Appends a name in ASCII, each label that needs it as punycode (RFC 3492). -1: no name at all. name: valid UTF-8. */
int url_domain_to_ascii(const char *name, size_t len, struct buf *out);

#endif
