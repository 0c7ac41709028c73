#include "cli/cli.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "log.h"
#include "secret.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const struct cli_command *const cli_commands[] = {
	&cli_run, &cli_probe, &cli_reap, &cli_drivers, &cli_manifest, &cli_replay, &cli_help, NULL,
};

const struct cli_command *cli_find(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (strcmp(cli_commands[i]->name, name) == 0)
			return cli_commands[i];
	return NULL;
}

/* --- what the program says --- */

const char *cli_paint(FILE *to, enum cli_colour colour)
{
	static const char *const escapes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!isatty(fileno(to)) || (no_color && *no_color) || !term || strcmp(term, "dumb") == 0)
		return "";
	return escapes[colour];
}

void cli_print_text(FILE *to, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080-009F: controls of eight bits */

		if (c1)
			c++;
		putc(c1 || (*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f ? '?' : *c, to);
	}
}

static __attribute__((format(printf, 3, 0))) void say(enum cli_colour colour, const char *label, const char *format, va_list ap)
{
	cleanup_free char *text = xvasprintf(format, ap);

	secret_mask_string(&text);
	fprintf(stderr, "%s" CLI_PROGRAM ":%s %s", cli_paint(stderr, colour), cli_paint(stderr, CLI_PLAIN), label);
	cli_print_text(stderr, text);
	putc('\n', stderr);
}

void cli_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(CLI_RED, "", format, ap);
	va_end(ap);
}

void cli_warn(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(CLI_YELLOW, "warning: ", format, ap);
	va_end(ap);
}

static void show_log(void *arg, enum log_level level, const char *message, const json_t *meta, const char *invocation_id)
{
	cleanup_free char *details = meta ? json_dumps(meta, JSON_COMPACT) : NULL;

	(void)invocation_id;
	if (level < LOG_LEVEL_WARN && !arg)
		return;
	fprintf(stderr, "%s%s:%s ", cli_paint(stderr, level < LOG_LEVEL_WARN ? CLI_DIM : CLI_YELLOW), log_level_name(level),
		cli_paint(stderr, CLI_PLAIN));
	cli_print_text(stderr, message);
	if (details) {
		putc(' ', stderr);
		cli_print_text(stderr, details);
	}
	putc('\n', stderr);
}

void cli_show_log(bool verbose)
{
	static char yes;

	log_set_sink(show_log, verbose ? &yes : NULL);
}

void cli_print_json(FILE *to, const json_t *value)
{
	cleanup_free char *text = json_dumps(value, JSON_INDENT(2));

	fputs(text, to);
	putc('\n', to);
}

int cli_finish_stdout(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (errno != EPIPE)
		cli_error("write to stdout: %s", strerror(errno));
	return CLI_FAILED;
}

/* --- arguments --- */

int cli_usage_error(const struct cli_command *command, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(CLI_RED, "", format, ap);
	va_end(ap);
	if (command)
		fprintf(stderr, "Try `" CLI_PROGRAM " help %s`.\n", command->name);
	else
		fprintf(stderr, "Try `" CLI_PROGRAM " --help`.\n");
	return CLI_USAGE;
}

int cli_next_option(const struct cli_command *command, int argc, char **argv, const char *letters, const struct option *options)
{
	int at = optind ? optind : 1;

	opterr = 0;
	int c = getopt_long(argc, argv, letters, options, NULL);
	const char *word = at < argc ? argv[at] : "";
	bool is_long = strncmp(word, "--", 2) == 0;

	if (c == ':') {
		if (is_long)
			cli_usage_error(command, "%s needs a value", word);
		else
			cli_usage_error(command, "-%c needs a value", optopt);
		return '?';
	}
	if (c == '?') {
		if (!is_long)
			cli_usage_error(command, "unknown option -%c", optopt);
		else if (optopt)
			cli_usage_error(command, "%.*s takes no value", (int)strcspn(word, "="), word);
		else
			cli_usage_error(command, "unknown option %s", word);
	}
	return c;
}

int cli_json_string(const char *text, const char *what, json_t **ret, struct err *err)
{
	if (!utf8_is_valid(text, strlen(text)))
		return err_set(err, ERR_INVALID, "%s is not valid UTF-8", what);
	*ret = json_string(text);
	return 0;
}
