#include "providers/registry.h"
#include "worker.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * stdout belongs to the protocol: the real one moves to a descriptor that only the channel knows, and what a library may print goes
 * to stderr. Neither can reach a child: both are close-on-exec.
 */
static int take_over(int fd, int replacement)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own >= 0 && replacement >= 0)
		dup2(replacement, fd);
	return own;
}

static int serve_stdio(const char *record_path)
{
	struct worker_options options = {.version = VERSION, .providers = provider_registry, .record_path = record_path};
	struct worker *worker;
	cleanup_err struct err err = ERR_INIT;
	cleanup_close int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	int in_fd = take_over(STDIN_FILENO, nothing);
	int out_fd = take_over(STDOUT_FILENO, STDERR_FILENO);

	if (in_fd < 0 || out_fd < 0) {
		fputs("paperclip-sandbox-worker: stdin and stdout must be open\n", stderr);
		return 2;
	}
	if (worker_create(&options, &worker, &err) < 0) {
		fprintf(stderr, "paperclip-sandbox-worker: %s\n", err_text(&err));
		return 1;
	}
	int status = worker_serve(worker, in_fd, out_fd);

	worker_destroy(worker);
	return status;
}

int main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return serve_stdio(NULL);
}
