#include "http_internal.h"

#include "base/mem.h"
#include "base/str.h"

#include <string.h>

/* A proxy cannot reach this machine's own addresses. */
#define NO_PROXY "localhost,127.0.0.0/8,::1"
/* Idle connections older than this are not used again: middle boxes may have forgotten them. */
#define IDLE_MAX_S 60
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 15

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_route *route = arg;
	struct http_stats *stats = &route->client->stats;

	(void)purpose;
	if (address->addrlen <= sizeof(route->address))
		memcpy(&route->address, &address->addr, address->addrlen);
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (route->ticket)
		http_lane_socket_opened(route->ticket, fd);
	stats->connections++;
	if (++stats->open > stats->open_max)
		stats->open_max = stats->open;
	return fd;
}

static int on_close(void *arg, curl_socket_t fd)
{
	struct http_client *client = arg;

	client->stats.open--;
	http_lanes_socket_closed(&client->short_calls.lanes, fd);
	http_lanes_socket_closed(&client->long_calls.lanes, fd);
	return close(fd);
}

static void set_proxy(CURL *easy, const struct http_options *options, const char *trusted)
{
	/* An empty proxy also keeps curl from asking the environment. */
	curl_easy_setopt(easy, CURLOPT_PROXY, options && options->proxy_url ? options->proxy_url : "");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, NO_PROXY);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (!options || !options->proxy_url)
		return;
	curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, trusted);
	curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
	if (options->proxy_credentials) {
		curl_easy_setopt(easy, CURLOPT_PROXYUSERPWD, options->proxy_credentials);
		curl_easy_setopt(easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
	}
}

static int set_tls(CURL *easy, struct http_route *route, struct err *err)
{
	const char *ca_file = route->options ? route->options->ca_file : NULL;
	const char *trusted = http_trust_file(&route->client->trust, ca_file, err);

	if (!trusted)
		return -1;
	curl_easy_setopt(easy, CURLOPT_CAINFO, trusted);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* with one, curl would parse the certificates anew for each connection */
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	if (route->options && route->options->cert_file) {
		curl_easy_setopt(easy, CURLOPT_SSLCERT, route->options->cert_file);
		curl_easy_setopt(easy, CURLOPT_SSLKEY, route->options->key_file ? route->options->key_file : route->options->cert_file);
	}
	set_proxy(easy, route->options, trusted);
	return 0;
}

/* libcurl before 8.0 starts HTTP/2 anew on a connection that speaks it already, and the service hangs up: there each call has its own. */
static void set_prior_knowledge(CURL *easy)
{
	bool is_old = curl_version_info(CURLVERSION_NOW)->version_num < 0x080000;

	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long)is_old);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, (long)is_old);
}

CURL *http_easy_create(struct http_route *route, struct err *err)
{
	CURL *easy = curl_easy_init();

	if (!easy)
		abort(); /* out of memory */
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, route->error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* Else removing a handle waits for its name look-up, which may take a minute. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_URL, route->target->text);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)route->connect_ms);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, route);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, route->client);
	if (route->options && route->options->socket_path)
		curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, route->options->socket_path);
	if (strcmp(route->target->url.scheme, "https") != 0) {
		/* To this machine: no TLS, no proxy, and no upgrade to HTTP/2 by curl's own idea. */
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		if (route->http2_only)
			set_prior_knowledge(easy);
		set_proxy(easy, NULL, NULL);
		return easy;
	}
	if (set_tls(easy, route, err) < 0) {
		curl_easy_cleanup(easy);
		return NULL;
	}
	return easy;
}
