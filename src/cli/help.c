#include "cli/cli.h"

#include <string.h>

void cli_print_overview(FILE *to)
{
	const char *bold = cli_paint(to, CLI_BOLD), *plain = cli_paint(to, CLI_PLAIN);

	fprintf(to,
		"Runs agents' commands in sandboxes: as the worker of a Paperclip plugin, or from the terminal.\n"
		"\n"
		"%sUsage%s\n"
		"  " CLI_PROGRAM " [--record FILE]     serve JSON-RPC on stdin and stdout (what the host starts)\n"
		"  " CLI_PROGRAM " COMMAND [OPTION…]   do one thing for a person\n"
		"\n"
		"%sCommands%s\n",
		bold, plain, bold, plain);
	for (size_t i = 0; cli_commands[i]; i++)
		fprintf(to, "  %-9s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	fprintf(to,
		"\n"
		"%sOptions%s\n"
		"  --record FILE  write every line of the session, with times and without secrets, to FILE (for `replay`)\n"
		"  --version      print the version\n"
		"  --help         print this\n"
		"\n"
		"%sExamples%s\n"
		"  " CLI_PROGRAM " probe --driver local\n"
		"  " CLI_PROGRAM " run --driver local -- sh -c 'id; ls -la'\n"
		"  " CLI_PROGRAM " run --driver local -c network=none -- curl https://example.org\n"
		"  tar -c . | " CLI_PROGRAM " run --driver local -- sh -c 'tar -x && make'\n"
		"\n"
		"`" CLI_PROGRAM " help COMMAND` tells more, the manual page everything.\n",
		bold, plain, bold, plain);
}

void cli_print_help(const struct cli_command *command, FILE *to)
{
	if (command)
		fputs(command->help, to);
	else
		cli_print_overview(to);
}

static int help_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	const struct cli_command *command = NULL;
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:h", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		cli_print_help(self, stdout);
		return cli_finish_stdout(CLI_OK);
	}
	if (argc - optind > 1)
		return cli_usage_error(self, "help takes one command");
	if (optind < argc && !(command = cli_find(argv[optind])))
		return cli_usage_error(NULL, "there is no command \"%s\"", argv[optind]);
	cli_print_help(command, stdout);
	return cli_finish_stdout(CLI_OK);
}

const struct cli_command cli_help = {
	.name = "help",
	.summary = "tell more about a command",
	.help = "Usage: " CLI_PROGRAM " help [COMMAND]\n"
		"\n"
		"Tells more about a command, with its options and examples.\n",
	.main = help_main,
};
