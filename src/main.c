#include "cli/cli.h"
#include "providers/registry.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Descriptors that nobody opened must not become something else's: a message would go to a socket. */
static void open_missing(int fd)
{
	int nothing;

	if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
		return;
	nothing = open("/dev/null", O_RDWR);
	if (nothing >= 0 && nothing != fd) {
		dup2(nothing, fd);
		close(nothing);
	}
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int serve_stdio(const char *record_path)
{
	struct worker_options options = {.version = VERSION, .providers = provider_registry, .record_path = record_path};
	struct worker *worker;
	cleanup_err struct err err = ERR_INIT;

	if (!is_open(STDIN_FILENO) || !is_open(STDOUT_FILENO)) {
		cli_error("stdin and stdout must be open");
		return CLI_USAGE;
	}
	if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
		fputs("Serving JSON-RPC on stdin and stdout, one message a line, as Paperclip's host expects. People start with --help.\n",
		      stderr);
	cleanup_close int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	int in_fd = take_over(STDIN_FILENO, nothing);
	int out_fd = take_over(STDOUT_FILENO, STDERR_FILENO);

	if (in_fd < 0 || out_fd < 0) {
		cli_error("too few file descriptors");
		return CLI_FAILED;
	}
	if (worker_create(&options, &worker, &err) < 0) {
		cli_error("%s", err_text(&err));
		return CLI_FAILED;
	}
	int status = worker_serve(worker, in_fd, out_fd);

	worker_destroy(worker);
	return status;
}

static int own_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"record", required_argument, NULL, 'r'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *record_path = NULL;
	int c;

	while ((c = cli_next_option(NULL, argc, argv, "+:Vh", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'r') {
			record_path = optarg;
			continue;
		}
		if (c == 'V')
			puts(CLI_PROGRAM " " VERSION);
		else
			cli_print_overview(stdout);
		return cli_finish_stdout(CLI_OK);
	}
	if (optind < argc)
		return cli_usage_error(NULL, cli_find(argv[optind]) ? "%s comes first, before any option" : "there is no command \"%s\"",
				       argv[optind]);
	return serve_stdio(record_path);
}

int main(int argc, char **argv)
{
	const struct cli_command *command = argc > 1 ? cli_find(argv[1]) : NULL;

	open_missing(STDERR_FILENO);
	if (!command)
		return own_options(argc, argv);
	open_missing(STDIN_FILENO);
	open_missing(STDOUT_FILENO);
	return command->main(command, argc - 1, argv + 1);
}
