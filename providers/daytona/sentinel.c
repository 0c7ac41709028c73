/* wire: daytona, Lifecycle: the file in a reused sandbox that says for whom it was made. */
#include "daytona.h"

#include "protocol/digest.h"
#include "protocol/host_time.h"
#include "protocol/js_value.h"
#include "protocol/shell_quote.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define FOLDER ".paperclip-runtime"
#define FILE_NAME "reusable-sandbox-lease.json"

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

char *daytona_sentinel_token(const struct daytona_config *c, const struct acquire_params *p)
{
	cleanup_json json_t *identity = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "adapterType", text_or_null(p->adapter_type), "agentId",
		text_or_null(p->agent_id), "companyId", text_or_null(p->base.company_id), "environmentId",
		text_or_null(p->base.environment_id), "executionWorkspaceId", text_or_null(p->execution_workspace_id), "image",
		text_or_null(c->image), "provider", "daytona", "snapshot", text_or_null(c->snapshot), "target",
		text_or_null(c->target));
	char token[SHA256_HEX_SIZE];

	for (size_t i = 0; i < DAYTONA_RESOURCES; i++)
		json_object_set_new(identity, daytona_resource_names[i],
				    isnan(c->resources[i]) ? json_null() : js_number_json(c->resources[i]));
	cleanup_free char *text = json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS);
	sha256_hex(text, strlen(text), token);
	return xstrdup(token);
}

static char *content_of(const struct acquire_params *p, const char *token)
{
	char now[ISO_TIME_BYTES];
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	iso_time_format((int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000, now);
	cleanup_json json_t *content = json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:s}", "version", 1, "token", token,
						 "companyId", text_or_null(p->base.company_id), "environmentId",
						 text_or_null(p->base.environment_id), "agentId", text_or_null(p->agent_id),
						 "executionWorkspaceId", text_or_null(p->execution_workspace_id), "adapterType",
						 text_or_null(p->adapter_type), "provider", "daytona", "writtenAt", now);
	return json_dumps(content, JSON_INDENT(2));
}

static json_t *result_of(const char *path, const char *token, const char *result)
{
	return json_pack("{s:s?, s:s?, s:s}", "path", path, "token", token, "result", result);
}

int daytona_sentinel_write(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s,
			   const struct acquire_params *p, const char *cwd, json_t **ret, struct err *err)
{
	cleanup_free char *folder = xasprintf("%s/" FOLDER, cwd);
	cleanup_free char *path = xasprintf("%s/" FILE_NAME, folder);

	if (!c->reuse_lease || !str_nonempty(p->agent_id) || !str_nonempty(p->execution_workspace_id)) {
		*ret = result_of(path, NULL, "skipped");
		return 0;
	}
	cleanup_free char *token = daytona_sentinel_token(c, p);
	cleanup_free char *content = content_of(p, token);
	if (daytona_make_folder(op, c, s, folder, err) < 0 ||
	    daytona_upload(op, c, s, path, HTTP_PIECE(content, strlen(content)), daytona_seconds(c->timeout_ms), err) < 0)
		return -1;
	*ret = result_of(path, token, "written");
	return 0;
}

static const char *judge(const struct daytona_run *run, const char *token)
{
	if (run->exit_code != 0)
		return "missing";
	cleanup_json json_t *content = json_loadb(run->text, run->len, JSON_ALLOW_NUL, NULL);
	return str_eq(json_string_value(json_object_get(content, "token")), token) ? "matched" : "mismatch";
}

int daytona_sentinel_check(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const json_t *lease_metadata,
			   json_t **ret, struct err *err)
{
	const json_t *known = json_object_get(lease_metadata, "workspaceSentinel");
	const char *path = json_string_value(json_object_get(known, "path"));
	const char *token = json_string_value(json_object_get(known, "token"));
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_daytona_run struct daytona_run run = {0};

	if (!str_nonempty(path) || !str_nonempty(token)) {
		*ret = result_of(path, token, "missing");
		return 0;
	}
	buf_append_str(&script, "cat ");
	shell_quote(&script, path);
	if (daytona_run_command(op, c, s, script.data, NULL, daytona_seconds(c->timeout_ms), &run, err) < 0)
		return -1;
	if (run.timed_out)
		return err_set(err, ERR_REMOTE, "%s", run.timeout_text);
	*ret = result_of(path, token, judge(&run, token));
	return 0;
}

bool daytona_sentinel_matches(const json_t *sentinel)
{
	return str_eq(json_string_value(json_object_get(sentinel, "result")), "matched");
}
