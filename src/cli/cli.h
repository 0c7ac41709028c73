/*
 * cli: the command line for people. One file a subcommand, each with its own help beside its options.
 *
 * stdout is what the command was asked for and nothing else; what the program itself has to say goes to stderr. Colours are for
 * terminals.
 */
#ifndef CLI_H
#define CLI_H

#include "base/err.h"

#include <getopt.h>
#include <stdio.h>

#define CLI_PROGRAM "paperclip-sandbox-worker"

/* Exit statuses; those of `run` beside the command's own are timeout(1)'s, env(1)'s and docker's. */
enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1,       /* it was done, and the answer is no */
	CLI_USAGE = 2,        /* wrong arguments or config: nothing was done */
	CLI_TIMED_OUT = 124,  /* run: the command's time limit */
	CLI_RUN_FAILED = 125, /* run: the command could not be run, or its sandbox not be removed */
	CLI_SIGNALLED = 128,  /* + the signal's number */
};

struct cli_command {
	const char *name;
	const char *summary; /* for the list of commands */
	const char *help;    /* usage, options, examples; whole lines */
	int (*main)(const struct cli_command *self, int argc, char **argv); /* argv[0] is the name; returns the exit status */
};

/* NULL-terminated, in the order of the help. */
extern const struct cli_command *const cli_commands[];
extern const struct cli_command cli_run, cli_probe, cli_reap, cli_drivers, cli_manifest, cli_replay, cli_help;

/* NULL: there is none of this name. */
const struct cli_command *cli_find(const char *name);
/* The program's own options and the list of commands. */
void cli_print_overview(FILE *to);
/* Prints the worker's --help or the command's. */
void cli_print_help(const struct cli_command *command, FILE *to);

/*
 * As getopt_long, which it calls (options begin with "+:" so that the first other word ends them), but what is wrong is told in our
 * words: the return is '?' then. -1: no more options. --help is the caller's.
 */
int cli_next_option(const struct cli_command *command, int argc, char **argv, const char *letters, const struct option *options);
/* "paperclip-sandbox-worker run: <text>" and where to look. command NULL: the program itself. Returns CLI_USAGE. */
int cli_usage_error(const struct cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines on stderr: "paperclip-sandbox-worker: <text>". Control characters of texts from elsewhere are shown as '?'. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum cli_colour { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW };

/* The escape sequence, or "" where to is no terminal, NO_COLOR is set or TERM is "dumb". */
const char *cli_paint(FILE *to, enum cli_colour colour);
/* Prints text without its control characters (but \n and \t): it may come from a service. */
void cli_print_text(FILE *to, const char *text);
/* Prints the value for people and programs alike: indented, members in their order, and a line end. */
void cli_print_json(FILE *to, const json_t *value);

/* Log lines of the worker go to stderr from now on: warnings and errors, and the others if verbose. */
void cli_show_log(bool verbose);

/* Flushes stdout; CLI_FAILED with a message if what was printed did not get there, else status. */
int cli_finish_stdout(int status);

/* A string argument that must be valid UTF-8 for JSON: new reference, or -1 with ERR_INVALID, `<what> is not valid UTF-8`. */
int cli_json_string(const char *text, const char *what, json_t **ret, struct err *err);

#endif
