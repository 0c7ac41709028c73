/*
 * curl's results in words, in the manner of Node's where the wire documents show these: what failed, for which host, and what to do
 * about it where somebody can. A code that is not listed keeps curl's own words.
 */
#include "http_internal.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "ECONNREFUSED" for its number; NULL: an unusual one. */
static const char *errno_name(long number)
{
	return number > 0 ? strerrorname_np((int)number) : NULL;
}

static bool is_via_proxy(const struct http_route *route)
{
	return route->options && route->options->proxy_url && strcmp(route->target->url.scheme, "https") == 0;
}

/* "127.0.0.1:8080" of what was tried last; "" if nothing was. */
static void format_address(const struct http_route *route, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (route->address.ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, &route->address, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
		snprintf(out, size, "%s:%u", text, (unsigned)ntohs(in.sin_port));
	} else if (route->address.ss_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, &route->address, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
		snprintf(out, size, "[%s]:%u", text, (unsigned)ntohs(in6.sin6_port));
	} else {
		*out = '\0';
	}
}

/* The address, and whose it is where that says too little: "10.0.0.1:443 (api.example)". Owned by the caller. */
static char *format_place(const struct http_route *route)
{
	char address[INET6_ADDRSTRLEN + 16];
	const struct url *u = &route->target->url;
	const struct http_options *options = route->options;

	if (options && options->socket_path)
		return xstrdup(options->socket_path);
	cleanup_free char *own = xasprintf("%s:%d", u->host, url_effective_port(u));

	format_address(route, address, sizeof(address));
	if (options && is_via_proxy(route))
		return xasprintf("%s (proxy %s, on the way to %s)", address, options->proxy_url, route->target->where);
	if (*address == '\0' || strcmp(own, address) == 0)
		return xstrdup(route->target->where);
	return xasprintf("%s (%s)", address, route->target->where);
}

static int connect_failed(const struct http_route *route, CURL *easy, struct err *err)
{
	cleanup_free char *place = format_place(route);
	long number = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
	const char *name = errno_name(number);

	return err_set(err, ERR_TRANSPORT, "connect %s %s", name ? name : "failed", place);
}

static int timed_out(const struct http_route *route, struct err *err)
{
	cleanup_free char *place = format_place(route);

	return err_set(err, ERR_TIMEOUT, "connect ETIMEDOUT %s: no connection within %lld ms", place, (long long)route->connect_ms);
}

/* The numbers are OpenSSL's X509_V_ERR_…; the names are Node's. */
static const char *verify_reason(long result)
{
	switch (result) {
	case 9:
		return "it is not valid yet (CERT_NOT_YET_VALID); is this machine's clock right?";
	case 10:
		return "it has expired (CERT_HAS_EXPIRED)";
	case 18:
		return "it is self-signed (DEPTH_ZERO_SELF_SIGNED_CERT); if that is right, name it in caFile";
	case 19:
		return "its CA is not known here (SELF_SIGNED_CERT_IN_CHAIN); if a service or proxy of your own issued it, name its CA in caFile";
	case 2:
	case 20:
		return "its CA is not known here (UNABLE_TO_GET_ISSUER_CERT_LOCALLY); if a service or proxy of your own issued it, name its "
		       "CA in caFile";
	case 21:
		return "its chain of certificates is incomplete (UNABLE_TO_VERIFY_LEAF_SIGNATURE)";
	case 23:
		return "it was revoked (CERT_REVOKED)";
	default:
		return NULL;
	}
}

static int verification_failed(const struct http_route *route, CURL *easy, struct err *err)
{
	long result = 0, proxy_result = 0;

	curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &result);
	curl_easy_getinfo(easy, CURLINFO_PROXY_SSL_VERIFYRESULT, &proxy_result);
	const char *whose = proxy_result ? route->options->proxy_url : route->target->where;
	const char *reason = verify_reason(proxy_result ? proxy_result : result);

	if (reason)
		return err_set(err, ERR_TRANSPORT, "the TLS certificate of %s is not trusted: %s", whose, reason);
	if (strstr(route->error, "subject name") || strstr(route->error, "does not match"))
		return err_set(err, ERR_TRANSPORT, "the TLS certificate of %s is for another name (ERR_TLS_CERT_ALTNAME_INVALID)", whose);
	return err_set(err, ERR_TRANSPORT, "the TLS certificate of %s is not trusted: %s", whose, route->error);
}

/* A proxy that does not open the tunnel: its status; 0: it was something else. */
static long tunnel_status(const struct http_route *route, CURL *easy)
{
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status);
	return is_via_proxy(route) && (status < 200 || status > 299) ? status : 0;
}

static int tunnel_refused(const struct http_route *route, long status, struct err *err)
{
	const char *advice = status == 407 ? ": it asks for other credentials (proxyCredentials)"
			     : status == 403 ? ": it does not allow this host" : "";

	return err_set(err, ERR_TRANSPORT, "the proxy %s answered HTTP %ld instead of opening a tunnel to %s%s", route->options->proxy_url, status,
		       route->target->where, advice);
}

static int broken(const struct http_route *route, CURL *easy, CURLcode code, int status, struct err *err)
{
	long number = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
	if (!number && strstr(route->error, "reset by peer"))
		number = ECONNRESET;
	if (!number && (strstr(route->error, "roken pipe") || strstr(route->error, "errno 32")))
		number = EPIPE;
	const char *name = errno_name(number), *verb = code == CURLE_SEND_ERROR ? "write" : "read";

	if (name)
		return err_set(err, ERR_TRANSPORT, "%s %s (%s)", verb, name, route->target->where);
	if (status)
		return err_set(err, ERR_TRANSPORT, "the connection to %s was closed in the middle of the answer", route->target->where);
	return err_set(err, ERR_TRANSPORT, "socket hang up (%s)", route->target->where);
}

int http_error_http2(const struct http_route *route, CURLcode code)
{
	const char *number = code == CURLE_HTTP2_STREAM ? strstr(route->error, "(err ") : NULL;

	return number ? (int)strtol(number + 5, NULL, 10) : -1;
}

int http_error_set(const struct http_route *route, CURL *easy, CURLcode code, bool started, int status, bool *ret_hopeless, struct err *err)
{
	const char *where = route->target->where;
	long tunnel = started ? 0 : tunnel_status(route, easy);

	*ret_hopeless = false;
	if (tunnel) {
		*ret_hopeless = tunnel < 500;
		return tunnel_refused(route, tunnel, err);
	}
	switch ((int)code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(err, ERR_TRANSPORT, "getaddrinfo ENOTFOUND %s: is the name right, and does this machine have network?",
			       route->target->url.host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return err_set(err, ERR_TRANSPORT, "getaddrinfo ENOTFOUND: the name of the proxy %s is not known", route->options->proxy_url);
	case CURLE_COULDNT_CONNECT:
		return connect_failed(route, easy, err);
	case CURLE_PROXY:
		return err_set(err, ERR_TRANSPORT, "the proxy %s did not connect to %s: %s", route->options->proxy_url, where, route->error);
	case CURLE_OPERATION_TIMEDOUT:
		return timed_out(route, err);
	case CURLE_PEER_FAILED_VERIFICATION:
		*ret_hopeless = true;
		return verification_failed(route, easy, err);
	case CURLE_SSL_CACERT_BADFILE:
		*ret_hopeless = true;
		return err_set(err, ERR_INVALID, "the CA certificates cannot be read: %s", route->error);
	case CURLE_SSL_CERTPROBLEM:
		*ret_hopeless = true;
		return err_set(err, ERR_INVALID, "the TLS client certificate or its key cannot be used: %s", route->error);
	case CURLE_SSL_CONNECT_ERROR:
		return err_set(err, ERR_TRANSPORT, "no TLS with %s: %s", where, *route->error ? route->error : curl_easy_strerror(code));
	case CURLE_PARTIAL_FILE:
		return err_set(err, ERR_TRANSPORT, "the connection to %s was closed in the middle of the answer", where);
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_ABORTED_BY_CALLBACK: /* a kept connection had died, and the request may have been carried out (http_transfer.c) */
		return broken(route, easy, code, status, err);
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return err_set(err, ERR_TRANSPORT, "%s ended the HTTP/2 stream: %s", where, *route->error ? route->error : curl_easy_strerror(code));
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_BAD_CONTENT_ENCODING:
		*ret_hopeless = true;
		return err_set(err, ERR_PROTOCOL, "the answer of %s is malformed: %s", where,
			       *route->error ? route->error : curl_easy_strerror(code));
	default:
		return err_set(err, ERR_TRANSPORT, "request to %s failed: %s", where, *route->error ? route->error : curl_easy_strerror(code));
	}
}
