/* stub_server: tests/lib/stub_http_server.py as a child of the test program; started at its first use, it ends with the program. */
#ifndef TESTS_STUB_SERVER_H
#define TESTS_STUB_SERVER_H

/* A port by its name in the server's first line; 0: it is not offered here. */
int stub_port(const char *name);
/* A path by its name. */
const char *stub_path(const char *name);
/* "http://127.0.0.1:<port><path>", https where the name is not "http", "h2c", "refused" or "full". Owned by the caller. */
char *stub_url(const char *name, const char *path_format, ...) __attribute__((format(printf, 2, 3)));

#endif
