#include "cli/cli.h"

#include "base/mem.h"
#include "protocol/manifest.h"
#include "providers/registry.h"

static json_t *build(void)
{
	size_t count = 0;

	while (provider_registry[count])
		count++;
	const char **declarations = xcalloc(count, sizeof(*declarations));

	for (size_t i = 0; i < count; i++)
		declarations[i] = provider_registry[i]->declaration;
	json_t *manifest = manifest_build(VERSION, declarations, count);

	free(declarations);
	return manifest;
}

static int manifest_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:h", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		cli_print_help(self, stdout);
		return cli_finish_stdout(CLI_OK);
	}
	if (optind < argc)
		return cli_usage_error(self, "manifest takes no arguments");
	cleanup_json json_t *manifest = build();

	cli_print_json(stdout, manifest);
	return cli_finish_stdout(CLI_OK);
}

const struct cli_command cli_manifest = {
	.name = "manifest",
	.summary = "print the plugin's manifest as JSON",
	.help = "Usage: " CLI_PROGRAM " manifest\n"
		"\n"
		"Prints the manifest of the Paperclip plugin: the drivers, and the schema of each one's config. It is made from the\n"
		"program's own tables, so it fits the program that prints it.\n"
		"\n"
		"Example\n"
		"  " CLI_PROGRAM " manifest | jq '.environmentDrivers[].configSchema.properties | keys'\n",
	.main = manifest_main,
};
