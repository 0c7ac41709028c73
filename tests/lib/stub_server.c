#include "stub_server.h"

#include "base/buf.h"
#include "base/mem.h"

#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static json_t *offers;

static void give_up(const char *what)
{
	printf("Bail out! the stub server: %s\n", what);
	exit(99);
}

static void read_offers(int fd)
{
	cleanup_buf struct buf line = BUF_INIT(65536);
	ssize_t n;

	do {
		char *room = buf_reserve(&line, 4096);

		n = read(fd, room, 4096);
		if (n > 0)
			buf_added(&line, (size_t)n);
	} while (n > 0 && line.data[line.len - 1] != '\n');
	offers = json_loads(line.data ? line.data : "", 0, NULL);
	if (!offers)
		give_up("it did not say where it listens");
}

static void forget_offers(void)
{
	json_decref(offers);
}

static void start(void)
{
	char python[] = "/usr/bin/python3", unbuffered[] = "-B", script[] = STUB_HTTP_SERVER;
	char *argv[] = {python, unbuffered, script, NULL};
	posix_spawn_file_actions_t actions;
	int in[2], out[2];
	pid_t pid;

	/* The end of our side of its stdin, however we end, ends it. */
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		give_up("no pipes");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	if (posix_spawn(&pid, python, &actions, NULL, argv, environ) != 0)
		give_up("it cannot be started");
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	read_offers(out[0]);
	close(out[0]);
	atexit(forget_offers);
}

int stub_port(const char *name)
{
	if (!offers)
		start();
	return (int)json_integer_value(json_object_get(offers, name));
}

const char *stub_path(const char *name)
{
	if (!offers)
		start();
	return json_string_value(json_object_get(offers, name));
}

char *stub_url(const char *name, const char *path_format, ...)
{
	bool plain = strcmp(name, "http") == 0 || strcmp(name, "h2c") == 0 || strcmp(name, "refused") == 0 || strcmp(name, "full") == 0;
	va_list ap;

	va_start(ap, path_format);
	cleanup_free char *path = xvasprintf(path_format, ap);
	va_end(ap);
	return xasprintf("%s://127.0.0.1:%d%s", plain ? "http" : "https", stub_port(name), path);
}
