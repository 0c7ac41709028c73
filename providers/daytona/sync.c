/* wire: daytona, environmentSyncIn, environmentSyncOut: what is checked before any request, and the operations one after the other. */
#include "sync.h"

#include "protocol/js_value.h"

static int check_command(const char *cwd, const struct sync_command *command, struct err *err)
{
	return command->cwd ? daytona_sync_check_path(cwd, command->cwd, "post-upload command cwd", err) : 0;
}

static int check_operation(const char *cwd, const struct sync_operation *operation, bool is_in, struct err *err)
{
	for (size_t i = 0; i < operation->file_count; i++) {
		const struct sync_file *file = &operation->files[i];
		const char *there = is_in ? file->target_path : file->source_path;
		const char *here = is_in ? file->source_path : file->target_path;

		if (daytona_sync_check_path(cwd, there, is_in ? "target path" : "source path", err) < 0)
			return -1;
		if (*here != '/')
			return err_set(err, ERR_INVALID, "Daytona sync needs an absolute path on the host: %s", here);
	}
	for (size_t i = 0; is_in && i < operation->command_count; i++) {
		if (check_command(cwd, &operation->commands[i], err) < 0)
			return -1;
	}
	return 0;
}

static int check(const struct sync_params *p, bool is_in, char **ret_cwd, struct err *err)
{
	cleanup_free char *cwd = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));

	if (!str_nonempty(p->lease.provider_lease_id))
		return err_set(err, ERR_INVALID, "Daytona sync%s requires a provider lease ID.", is_in ? "In" : "Out");
	if (!cwd)
		return err_set(err, ERR_INVALID, "Daytona file sync requires a workspace remote dir on the lease metadata.");
	cleanup_free char *normal = daytona_normalize_path(cwd);
	if (!normal)
		return err_set(err, ERR_INVALID, "The lease's workspace remote dir is not an absolute path: %s", cwd);
	for (size_t i = 0; i < p->count; i++) {
		if (check_operation(normal, &p->operations[i], is_in, err) < 0)
			return -1;
	}
	*ret_cwd = steal(&normal);
	return 0;
}

static int sync_all(const struct daytona_sync *sync, const struct sync_params *p, bool is_in, struct sync_report *ret,
		    struct err *err)
{
	for (size_t i = 0; i < p->count; i++) {
		int rc = is_in ? daytona_sync_operation_in(sync, &p->operations[i], &ret[i], err)
			       : daytona_sync_operation_out(sync, &p->operations[i], &ret[i], err);
		if (rc < 0)
			return -1;
	}
	return 0;
}

static int sync_files(struct op *op, const struct sync_params *p, bool is_in, struct sync_report *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_free char *cwd = NULL;
	struct daytona_handle *handle;

	if (check(p, is_in, &cwd, err) < 0 || daytona_config_read(op, p->base.config, &c, err) < 0 ||
	    daytona_handle_pin(op, &c, &p->base, p->lease.provider_lease_id, &handle, err) < 0)
		return -1;
	struct daytona_sync sync = {
		.op = op, .c = &c, .sandbox = &handle->sandbox, .cwd = cwd, .seconds = daytona_seconds(c.timeout_ms)};
	int rc = sync_all(&sync, p, is_in, ret, err);
	daytona_handle_unpin(op, handle);
	return rc;
}

int daytona_sync_in(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err)
{
	return sync_files(op, p, /* is_in= */ true, ret, err);
}

int daytona_sync_out(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err)
{
	return sync_files(op, p, /* is_in= */ false, ret, err);
}
