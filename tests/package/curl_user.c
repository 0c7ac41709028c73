/* curl_user [SOCKET] says what the libcurl that it is linked with can do; with SOCKET it asks the HTTP server there for /hello. */
#include <curl/curl.h>
#include <stdio.h>

static void print_names(const char *key, const char *const *names)
{
	printf("%s", key);
	for (; *names != NULL; names++) {
		printf(" %s", *names);
	}
	printf("\n");
}

static int get(const char *socket)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL) {
		return 1;
	}
	curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, socket);
	curl_easy_setopt(easy, CURLOPT_URL, "http://localhost/hello");
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	CURLcode result = curl_easy_perform(easy);

	curl_easy_cleanup(easy);
	if (result != CURLE_OK) {
		fprintf(stderr, "%s\n", curl_easy_strerror(result));
	}
	return result == CURLE_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		return 1;
	}
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	int status = 0;

	if (argc > 1) {
		status = get(argv[1]);
	} else {
		printf("tls %s\n", info->ssl_version);
		print_names("protocols", info->protocols);
		printf("http2 %d\n", (info->features & CURL_VERSION_HTTP2) != 0);
		printf("https-proxy %d\n", (info->features & CURL_VERSION_HTTPS_PROXY) != 0);
		printf("resolver %d\n", (info->features & CURL_VERSION_ASYNCHDNS) != 0);
		printf("threadsafe %d\n", (info->features & CURL_VERSION_THREADSAFE) != 0);
	}
	curl_global_cleanup();
	return status;
}
