#include "cli/cli.h"
#include "cli/config_input.h"
#include "cli/worker_task.h"

#include "protocol/host_time.h"

#include <string.h>

struct probe {
	json_t *config;
	bool json;
};

static void print_diagnostic(const json_t *diagnostic)
{
	static const struct {
		const char *severity, *label;
		enum cli_colour colour;
	} severities[] = {
		{"error", "error", CLI_RED},
		{"warning", "warning", CLI_YELLOW},
		{"warn", "warning", CLI_YELLOW},
		{"info", "ok", CLI_GREEN},
	};
	const char *severity = json_string_value(json_object_get(diagnostic, "severity"));
	const char *message = json_string_value(json_object_get(diagnostic, "message"));
	const char *label = severity ? severity : "";
	enum cli_colour colour = CLI_PLAIN;

	for (size_t i = 0; i < sizeof(severities) / sizeof(severities[0]); i++) {
		if (strcmp(severities[i].severity, label) == 0) {
			label = severities[i].label;
			colour = severities[i].colour;
			break;
		}
	}
	printf("  %s%-7s%s  ", cli_paint(stdout, colour), label, cli_paint(stdout, CLI_PLAIN));
	/* Lines after the first stand under its text. */
	for (const char *c = message ? message : ""; *c; c++) {
		char one[2] = {*c};

		if (*c == '\n')
			fputs("\n           ", stdout);
		else if ((unsigned char)*c < 0x80)
			cli_print_text(stdout, one);
		else
			putchar(*c);
	}
	putchar('\n');
}

static void print_report(const struct provider *provider, const struct probe_report *report)
{
	const json_t *diagnostic;
	size_t i;

	printf("%s%s%s: ", cli_paint(stdout, CLI_BOLD), provider->driver_key, cli_paint(stdout, CLI_PLAIN));
	printf("%s%s%s\n", cli_paint(stdout, report->ok ? CLI_GREEN : CLI_RED), report->ok ? "ready" : "not ready",
	       cli_paint(stdout, CLI_PLAIN));
	if (report->summary) {
		fputs("  ", stdout);
		cli_print_text(stdout, report->summary);
		putchar('\n');
	}
	if (json_array_size(report->diagnostics))
		putchar('\n');
	json_array_foreach(report->diagnostics, i, diagnostic)
		print_diagnostic(diagnostic);
}

static void print_report_json(const struct probe_report *report)
{
	cleanup_json json_t *object = json_pack("{s:b}", "ok", report->ok);

	if (report->summary)
		json_object_set_new(object, "summary", json_string(report->summary));
	if (report->diagnostics)
		json_object_set(object, "diagnostics", report->diagnostics);
	if (report->metadata)
		json_object_set(object, "metadata", report->metadata);
	cli_print_json(stdout, object);
}

static void mask(struct probe_report *report)
{
	json_t **const parts[] = {&report->diagnostics, &report->metadata};

	secret_mask_string(&report->summary);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		json_t *given = *parts[i];

		if (!given)
			continue;
		*parts[i] = secret_masked_json(given);
		json_decref(given);
	}
}

static int probe_task(struct op *op, void *arg)
{
	const struct probe *probe = arg;
	struct probe_params params = {.base = worker_task_base(op, probe->config)};
	struct probe_report report = {0};
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	deadline_enter(&scope, host_deadline_ms(HOST_TIMEOUT_PROBE, NULL));
	int rc = op->provider->probe(op, &params, &report, &err);

	scope_leave(&scope);
	mask(&report);
	int status = rc == 0 && report.ok ? CLI_OK : CLI_FAILED;

	if (worker_task_signal())
		status = CLI_SIGNALLED + worker_task_signal();
	else if (rc < 0)
		cli_error("probe of %s: %s", op->provider->driver_key, err_text(&err));
	else if (probe->json)
		print_report_json(&report);
	else
		print_report(op->provider, &report);
	probe_report_deinit(&report);
	return status;
}

static int probe_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		CONFIG_INPUT_OPTIONS,
		{"json", no_argument, NULL, 'j'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	cleanup_config_input struct config_input input = {0};
	const struct provider *provider;
	struct probe probe = {0};
	bool verbose = false;
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:" CONFIG_INPUT_LETTERS "vh", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'h') {
			cli_print_help(self, stdout);
			return cli_finish_stdout(CLI_OK);
		}
		if (c == 'j')
			probe.json = true;
		else if (c == 'v')
			verbose = true;
		else
			config_input_option(&input, c, optarg);
	}
	if (optind < argc)
		return cli_usage_error(self, "probe takes no argument \"%s\"", argv[optind]);
	if (config_input_read(&input, self, NULL, &provider, &probe.config) != CLI_OK)
		return CLI_USAGE;
	if (!provider->probe) {
		json_decref(probe.config);
		return cli_usage_error(self, "%s has no probe", provider->driver_key);
	}
	int status = worker_task_run(provider, verbose, probe_task, NULL, &probe);

	json_decref(probe.config);
	return cli_finish_stdout(status);
}

const struct cli_command cli_probe = {
	.name = "probe",
	.summary = "find out whether a driver works here, and what is missing",
	.help = "Usage: " CLI_PROGRAM " probe --driver D [OPTION…]\n"
		"\n"
		"Finds out whether sandboxes of the driver can be had with this config, and what is missing. Exit status 0: yes; 1: no;\n"
		"2: the arguments or the config are wrong.\n"
		"\n"
		"Options\n"
		CONFIG_INPUT_HELP
		"  --json            the report as JSON\n"
		"  -v, --verbose     show the driver's log as well\n"
		"\n"
		"Examples\n"
		"  " CLI_PROGRAM " probe --driver local\n"
		"  " CLI_PROGRAM " probe --driver local -c memoryMb=512 --json\n",
	.main = probe_main,
};
