#include "cli/cli.h"
#include "cli/config_input.h"
#include "cli/worker_task.h"

#include "base/mem.h"

struct reap {
	json_t *config;
	bool dry_run, all;
};

static void print_report(const struct reap *reap, const struct reap_report *report)
{
	const char *verb = reap->dry_run ? "would be removed" : "removed";

	for (size_t i = 0; i < report->lines.count; i++) {
		cleanup_free char *line = xstrdup(report->lines.items[i]);

		secret_mask_string(&line);
		cli_print_text(stdout, line);
		putchar('\n');
	}
	printf("%u %s", report->reaped, verb);
	if (report->failed)
		printf(", %u could not be removed", report->failed);
	if (report->left)
		printf(", %u left to %s owners", report->left, report->left == 1 ? "its" : "their");
	putchar('\n');
}

static int reap_task(struct op *op, void *arg)
{
	const struct reap *reap = arg;
	struct reap_params params = {.base = worker_task_base(op, reap->config), .dry_run = reap->dry_run, .all = reap->all};
	struct reap_report report = {0};
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	deadline_enter(&scope, DEADLINE_NONE);
	int rc = op->provider->reap(op, &params, &report, &err);

	scope_leave(&scope);
	int status = rc == 0 && report.failed == 0 ? CLI_OK : CLI_FAILED;

	if (worker_task_signal())
		status = CLI_SIGNALLED + worker_task_signal();
	else if (rc < 0)
		cli_error("reap of %s: %s", op->provider->driver_key, err_text(&err));
	if (rc == 0)
		print_report(reap, &report);
	reap_report_deinit(&report);
	return status;
}

static int reap_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		CONFIG_INPUT_OPTIONS,
		{"dry-run", no_argument, NULL, 'n'},
		{"all", no_argument, NULL, 'a'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	cleanup_config_input struct config_input input = {0};
	const struct provider *provider;
	struct reap reap = {0};
	bool verbose = false;
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:" CONFIG_INPUT_LETTERS "navh", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'h') {
			cli_print_help(self, stdout);
			return cli_finish_stdout(CLI_OK);
		}
		if (c == 'n')
			reap.dry_run = true;
		else if (c == 'a')
			reap.all = true;
		else if (c == 'v')
			verbose = true;
		else
			config_input_option(&input, c, optarg);
	}
	if (optind < argc)
		return cli_usage_error(self, "reap takes no argument \"%s\"", argv[optind]);
	if (config_input_read(&input, self, NULL, &provider, &reap.config) != CLI_OK)
		return CLI_USAGE;
	if (!provider->reap) {
		json_decref(reap.config);
		return cli_usage_error(self, "%s has nothing to reap: what it makes ends with its worker, or by itself", provider->driver_key);
	}
	int status = worker_task_run(provider, verbose, reap_task, NULL, &reap);

	json_decref(reap.config);
	return cli_finish_stdout(status);
}

const struct cli_command cli_reap = {
	.name = "reap",
	.summary = "remove the sandboxes that workers which died have left behind",
	.help = "Usage: " CLI_PROGRAM " reap --driver D [OPTION…]\n"
		"\n"
		"Removes sandboxes that nobody owns any more: those that a worker of this machine was making for a host when it died, and\n"
		"those whose time is over. Sandboxes that a host got may still be in its hands, with their worker dead or not: they stay,\n"
		"unless --all is given. Drivers: docker, ssh.\n"
		"\n"
		"Exit status 0: all of these are gone; 1: one could not be removed, or the service cannot be reached; 2: the arguments or\n"
		"the config are wrong.\n"
		"\n"
		"Options\n"
		CONFIG_INPUT_HELP
		"  -n, --dry-run     only say what would be removed\n"
		"  --all             also those that a host got from a worker which has died since: its files are lost, and a host that\n"
		"                    comes back for it finds its lease expired\n"
		"  -v, --verbose     show the driver's log as well\n"
		"\n"
		"Examples\n"
		"  " CLI_PROGRAM " reap --driver docker --dry-run\n"
		"  " CLI_PROGRAM " reap --driver docker -c socketPath=/run/podman/podman.sock\n",
	.main = reap_main,
};
