/* wire: daytona, Config. */
#include "daytona.h"

#include "protocol/js_value.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>

#define API_URL_DEFAULT "https://app.daytona.io/api"
#define KEY_MISSING "Daytona sandbox environments require an API key in config or DAYTONA_API_KEY."

const char *const daytona_resource_names[DAYTONA_RESOURCES] = {"cpu", "memory", "disk", "gpu"};
const char *const daytona_interval_names[DAYTONA_INTERVALS] = {"autoStopInterval", "autoArchiveInterval", "autoDeleteInterval"};
static const double interval_defaults[DAYTONA_INTERVALS] = {15, 60, 10080};
static const double interval_minima[DAYTONA_INTERVALS] = {0, 0, -1};

/* The variable without white space around it; NULL: unset or blank. Owned. */
static char *environment_text(const char *name)
{
	const char *value = getenv(name);
	cleanup_json json_t *text = value ? json_string(value) : NULL;

	return js_trimmed(text);
}

/* NaN: null, absent, "", or nothing that is a number. */
static double number_or_nan(const json_t *value)
{
	if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
		return NAN;
	double number = js_number(value);
	return isfinite(number) ? number : NAN;
}

static bool is_blank_string(const json_t *config, const char *key, const char *trimmed)
{
	return json_is_string(json_object_get(config, key)) && !trimmed;
}

void daytona_config_parse(const json_t *config, struct daytona_config *ret)
{
	const json_t *timeout = json_object_get(config, "timeoutMs");

	*ret = (struct daytona_config){
		.api_key = js_trimmed(json_object_get(config, "apiKey")),
		.api_url = js_trimmed(json_object_get(config, "apiUrl")),
		.target = js_trimmed(json_object_get(config, "target")),
		.snapshot = js_trimmed(json_object_get(config, "snapshot")),
		.image = js_trimmed(json_object_get(config, "image")),
		.language = js_trimmed(json_object_get(config, "language")),
		.timeout_ms = timeout && !json_is_null(timeout) ? js_integer(timeout, DAYTONA_TIMEOUT_DEFAULT_MS)
								: DAYTONA_TIMEOUT_DEFAULT_MS,
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
		.archive_on_release = json_is_true(json_object_get(config, "archiveOnRelease")),
		.use_sessions = json_is_true(json_object_get(config, "useSessions")),
		.use_log_stream = json_is_true(json_object_get(config, "useLogStream")),
	};
	ret->image_blank = is_blank_string(config, "image", ret->image);
	ret->snapshot_blank = is_blank_string(config, "snapshot", ret->snapshot);
	for (size_t i = 0; i < DAYTONA_RESOURCES; i++)
		ret->resources[i] = number_or_nan(json_object_get(config, daytona_resource_names[i]));
	for (size_t i = 0; i < DAYTONA_INTERVALS; i++) {
		double number = number_or_nan(json_object_get(config, daytona_interval_names[i]));
		ret->intervals[i] = isnan(number) ? interval_defaults[i] : trunc(number) + 0.0;
	}
}

void daytona_config_deinit(struct daytona_config *c)
{
	if (!c)
		return;
	str_wipe_free(c->api_key);
	free(c->api_url);
	free(c->target);
	free(c->snapshot);
	free(c->image);
	free(c->language);
	http_options_deinit(&c->http);
	*c = (struct daytona_config){0};
}

static bool has_resources(const struct daytona_config *c)
{
	for (size_t i = 0; i < DAYTONA_RESOURCES; i++) {
		if (!isnan(c->resources[i]))
			return true;
	}
	return false;
}

static void validate_url(const char *text, struct strv *errors)
{
	cleanup_url struct url url = {0};

	if (text && url_parse(text, &url, NULL) < 0)
		strv_add(errors, "apiUrl must be a valid URL.");
}

static void validate_numbers(const struct daytona_config *c, struct strv *errors)
{
	if (!(c->timeout_ms >= 1 && c->timeout_ms <= DAYTONA_TIMEOUT_MAX_MS))
		strv_addf(errors, "timeoutMs must be between 1 and %d.", DAYTONA_TIMEOUT_MAX_MS);
	for (size_t i = 0; i < DAYTONA_INTERVALS; i++) {
		if (c->intervals[i] < interval_minima[i])
			strv_addf(errors, "%s must be greater than or equal to %d.", daytona_interval_names[i],
				  (int)interval_minima[i]);
	}
}

void daytona_config_validate(const struct daytona_config *c, const json_t *config, struct strv *errors)
{
	cleanup_free char *environment_key = environment_text("DAYTONA_API_KEY");

	if (c->image_blank)
		strv_add(errors, "Daytona image cannot be empty.");
	if (c->snapshot_blank)
		strv_add(errors, "Daytona snapshot cannot be empty.");
	if (c->image && c->snapshot)
		strv_add(errors, "Daytona sandbox environments must set either image or snapshot, not both.");
	validate_url(c->api_url, errors);
	validate_numbers(c, errors);
	if (!c->api_key && !environment_key)
		strv_add(errors, KEY_MISSING);
	if (has_resources(c) && !c->image)
		strv_add(errors,
			 "Daytona resource settings require image-backed sandbox creation; snapshot/default sandbox creation "
			 "cannot override CPU, memory, disk, or GPU.");
	for (size_t i = 0; i < DAYTONA_RESOURCES; i++) {
		if (c->resources[i] <= 0)
			strv_addf(errors, "%s must be greater than 0 when provided.", daytona_resource_names[i]);
	}
	http_options_validate(config, errors);
}

static void set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text ? json_string(text) : json_null());
}

json_t *daytona_config_normalized(const struct daytona_config *c, const json_t *config)
{
	json_t *object = json_object();

	set_text(object, "apiKey", c->api_key);
	set_text(object, "apiUrl", c->api_url);
	set_text(object, "target", c->target);
	set_text(object, "snapshot", c->snapshot);
	set_text(object, "image", c->image);
	set_text(object, "language", c->language);
	json_object_set_new(object, "timeoutMs", js_number_json(c->timeout_ms));
	for (size_t i = 0; i < DAYTONA_RESOURCES; i++)
		json_object_set_new(object, daytona_resource_names[i],
				    isnan(c->resources[i]) ? json_null() : js_number_json(c->resources[i]));
	for (size_t i = 0; i < DAYTONA_INTERVALS; i++)
		json_object_set_new(object, daytona_interval_names[i], js_number_json(c->intervals[i]));
	json_object_set_new(object, "reuseLease", json_boolean(c->reuse_lease));
	if (c->archive_on_release)
		json_object_set_new(object, "archiveOnRelease", json_true());
	if (c->use_sessions)
		json_object_set_new(object, "useSessions", json_true());
	if (c->use_log_stream)
		json_object_set_new(object, "useLogStream", json_true());
	http_options_normalize(config, object);
	return object;
}

/* --- for calls --- */

static char *first_of_environment(const char *const *names)
{
	char *text = NULL;

	for (; *names && !text; names++)
		text = environment_text(*names);
	return text;
}

int daytona_config_read(struct op *op, const json_t *config, struct daytona_config *ret, struct err *err)
{
	daytona_config_parse(config, ret);
	if (!ret->api_key)
		ret->api_key = environment_text("DAYTONA_API_KEY");
	if (!ret->api_key)
		return err_set(err, ERR_AUTH, KEY_MISSING);
	op_hold_secret(op, ret->api_key);
	if (!ret->api_url)
		ret->api_url = first_of_environment((const char *const[]){"DAYTONA_API_URL", "DAYTONA_SERVER_URL", NULL});
	if (!ret->api_url)
		ret->api_url = xstrdup(API_URL_DEFAULT);
	for (size_t len = strlen(ret->api_url); len > 0 && ret->api_url[len - 1] == '/'; len--)
		ret->api_url[len - 1] = '\0';
	if (!ret->target)
		ret->target = environment_text("DAYTONA_TARGET");
	return http_options_read(config, &ret->http, err);
}

int daytona_config_check_create(const struct daytona_config *c, struct err *err)
{
	static const char *const languages[] = {"python", "typescript", "javascript"};
	bool known = !c->language;

	if (has_resources(c) && !c->image && !c->snapshot)
		return err_set(err, ERR_INVALID,
			       "Daytona resource settings require image-backed sandbox creation; default sandbox "
			       "creation cannot override CPU, memory, disk, or GPU.");
	for (size_t i = 0; i < sizeof languages / sizeof languages[0]; i++)
		known = known || strcmp(c->language, languages[i]) == 0;
	return known ? 0
		     : err_set(err, ERR_INVALID,
			       "Invalid code-toolbox-language: %s. Supported languages: python, typescript, javascript",
			       c->language);
}

int64_t daytona_seconds(double ms)
{
	double seconds = ceil(ms / 1000);

	return seconds >= 1 ? (seconds < 1e12 ? (int64_t)seconds : (int64_t)1e12) : 1;
}
