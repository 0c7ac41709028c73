#include "cli/cli.h"

#include "base/buf.h"
#include "op_internal.h"
#include "providers/registry.h"

#include <string.h>

/* What a driver supports: what it declares to the host, and only where it has the operations as well. */
struct support {
	const char *key;   /* in the JSON */
	const char *title; /* in the table */
	bool (*has)(const struct provider *p, const json_t *declaration);
};

static bool declares(const json_t *declaration, const char *key)
{
	return json_is_true(json_object_get(declaration, key));
}

static bool declares_capability(const json_t *declaration, const char *key)
{
	return declares(json_object_get(declaration, "sandboxCapabilities"), key);
}

static bool has_reuse(const struct provider *p, const json_t *declaration)
{
	return p->resume_lease && p->release_lease && p->destroy_lease &&
	       (declares(declaration, "supportsReusableLeases") || declares_capability(declaration, "reusableLeases"));
}

static bool has_live_output(const struct provider *p, const json_t *declaration)
{
	return p->execute && declares_capability(declaration, "incrementalSessionOutput");
}

static bool has_setup(const struct provider *p, const json_t *declaration)
{
	return p->start_setup && p->get_setup && p->cancel_setup && declares(declaration, "supportsInteractiveSetup");
}

static bool has_templates(const struct provider *p, const json_t *declaration)
{
	return p->capture_template && declares(declaration, "supportsTemplateCapture");
}

static const struct support supports[] = {
	{"reusableLeases", "REUSE", has_reuse},
	{"liveOutput", "LIVE OUTPUT", has_live_output},
	{"interactiveSetup", "SETUP", has_setup},
	{"templates", "TEMPLATES", has_templates},
};
#define SUPPORT_COUNT (sizeof(supports) / sizeof(supports[0]))

static json_t *describe(const struct provider *p, const json_t *declaration)
{
	json_t *driver = json_object(), *methods = json_array();

	json_object_set_new(driver, "driverKey", json_string(p->driver_key));
	json_object_set(driver, "displayName", json_object_get(declaration, "displayName"));
	json_object_set(driver, "description", json_object_get(declaration, "description"));
	for (size_t i = 0; i < SUPPORT_COUNT; i++)
		json_object_set_new(driver, supports[i].key, json_boolean(supports[i].has(p, declaration)));
	for (const struct method *m = environment_methods; m->name; m++)
		if (method_in_provider(m, p))
			json_array_append_new(methods, json_string(m->name));
	json_object_set_new(driver, "methods", methods);
	return driver;
}

static void print_json(void)
{
	cleanup_json json_t *drivers = json_array();

	for (size_t i = 0; provider_registry[i]; i++) {
		cleanup_json json_t *declaration = json_loads(provider_registry[i]->declaration, 0, NULL);

		json_array_append_new(drivers, describe(provider_registry[i], declaration));
	}
	cli_print_json(stdout, drivers);
}

/* Of text in our own declarations: its characters are one column wide each. */
static int columns_of(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *text, int width)
{
	printf("%s%*s", text, width - columns_of(text) + 2, "");
}

static int max(int a, int b)
{
	return a > b ? a : b;
}

static void print_row(const struct provider *p, const json_t *declaration, int key_width, int name_width)
{
	print_cell(p->driver_key, key_width);
	print_cell(json_string_value(json_object_get(declaration, "displayName")), name_width);
	for (size_t s = 0; s < SUPPORT_COUNT; s++) {
		bool yes = supports[s].has(p, declaration);
		bool last = s + 1 == SUPPORT_COUNT;

		printf("%s%s%s%*s", cli_paint(stdout, yes ? CLI_GREEN : CLI_DIM), yes ? "yes" : "-", cli_paint(stdout, CLI_PLAIN),
		       last ? 0 : columns_of(supports[s].title) + 2 - (yes ? 3 : 1), "");
	}
	putchar('\n');
}

static void print_table(void)
{
	cleanup_json json_t *declarations = json_array();
	int key_width = 6, name_width = 4;

	for (size_t i = 0; provider_registry[i]; i++) {
		json_t *declaration = json_loads(provider_registry[i]->declaration, 0, NULL);

		json_array_append_new(declarations, declaration);
		key_width = max(key_width, columns_of(provider_registry[i]->driver_key));
		name_width = max(name_width, columns_of(json_string_value(json_object_get(declaration, "displayName"))));
	}
	fputs(cli_paint(stdout, CLI_BOLD), stdout);
	print_cell("DRIVER", key_width);
	print_cell("NAME", name_width);
	for (size_t s = 0; s < SUPPORT_COUNT; s++)
		printf("%s%s", supports[s].title, s + 1 == SUPPORT_COUNT ? "" : "  ");
	printf("%s\n", cli_paint(stdout, CLI_PLAIN));
	for (size_t i = 0; provider_registry[i]; i++)
		print_row(provider_registry[i], json_array_get(declarations, i), key_width, name_width);
}

static int drivers_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	bool json = false;
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:h", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'h') {
			cli_print_help(self, stdout);
			return cli_finish_stdout(CLI_OK);
		}
		json = true;
	}
	if (optind < argc)
		return cli_usage_error(self, "drivers takes no arguments");
	if (json)
		print_json();
	else
		print_table();
	return cli_finish_stdout(CLI_OK);
}

const struct cli_command cli_drivers = {
	.name = "drivers",
	.summary = "list the drivers and what each supports",
	.help = "Usage: " CLI_PROGRAM " drivers [--json]\n"
		"\n"
		"Lists the drivers, that is the providers of sandboxes, and what each supports.\n"
		"\n"
		"  REUSE        a sandbox can be kept and used again: by a host, and with `run --keep` if it outlives the worker\n"
		"  LIVE OUTPUT  what a command prints arrives while it runs\n"
		"  SETUP        sandboxes that a person sets up by hand\n"
		"  TEMPLATES    a sandbox can be captured as a template for later ones\n"
		"\n"
		"Options\n"
		"  --json  as a JSON array, with the descriptions and the host's methods that each driver serves\n",
	.main = drivers_main,
};
