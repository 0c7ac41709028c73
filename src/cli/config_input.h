/*
 * config_input: a driver and its config, as a person gives them.
 *
 *	--config FILE     a JSON object
 *	-c KEY=VALUE      one key; VALUE is taken as JSON where it is JSON, else as a string
 *	-c KEY=@FILE      a string, the file's content without its last line end: secrets need not be arguments
 *	-c KEY=env:NAME   a string, the variable's value
 *
 * A string that would be taken for something else is given as JSON: -c 'KEY="@x"'.
 */
#ifndef CLI_CONFIG_INPUT_H
#define CLI_CONFIG_INPUT_H

#include "base/err.h"
#include "base/str.h"
#include "cli/cli.h"
#include "provider.h"
#include "secret.h"

struct config_input {
	const char *driver; /* borrowed: an argument, as the rest */
	const char *file;
	struct strv settings;      /* of -c, in their order */
	struct secret_set secrets; /* of the config: what the program says does not show them */
};

#define CONFIG_INPUT_LETTERS "d:c:"
#define CONFIG_INPUT_OPTIONS {"driver", required_argument, NULL, 'd'}, {"config", required_argument, NULL, 'C'}
#define CONFIG_INPUT_HELP                                                                   \
	"  --driver D        the provider: see `" CLI_PROGRAM " drivers`\n"                 \
	"  --config FILE     its config, a JSON object\n"                                   \
	"  -c KEY=VALUE      one key of it; VALUE is JSON, or else a string. Later ones win\n" \
	"  -c KEY=@FILE      … a string read from a file (a secret, say)\n"                 \
	"  -c KEY=env:NAME   … a string from an environment variable\n"

void config_input_deinit(struct config_input *input);
#define cleanup_config_input cleanup(config_input_deinit)

/* Takes an option of the above; false: it is none of them. */
bool config_input_option(struct config_input *input, int letter, const char *value);

/*
 * Finds the driver, reads the config and has the driver check it; tells what is wrong on stderr. `forced` (an object or NULL) goes
 * over what was given. CLI_OK with the driver and the normalised config (new reference), or CLI_USAGE.
 */
int config_input_read(struct config_input *input, const struct cli_command *command, const json_t *forced,
		      const struct provider **ret_provider, json_t **ret_config);
/* True if the person's config has this key. To be asked after config_input_read was fine. */
bool config_input_has(const struct config_input *input, const char *key);
/* The options that give this config again, quoted for a shell; secrets that stood in them are left out. Owned. */
char *config_input_words(const struct config_input *input, const struct provider *provider);
/* The word in quotes where a shell would need them. Owned. */
char *shell_word(const char *word);

#endif
