/* environmentSyncIn and environmentSyncOut (host contract, Native file sync): operations from JSON, the driver's slot, the counts to JSON. */
#include "op_internal.h"

#include "base/mem.h"
#include "protocol/fields.h"

#include <math.h>
#include <string.h>

/* What the JSON says, before it is checked. */
struct file_fields {
	const char *kind, *source_path, *target_path;
	const json_t *exclude;
	bool follow_symlinks;
};

static int read_exclude(const json_t *array, const char *where, struct strv *ret, struct err *err)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item) {
		if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
			return err_set(err, ERR_INVALID, "%s.exclude[%zu] must be a string without null bytes", where, i);
		strv_add(ret, json_string_value(item));
	}
	return 0;
}

static int read_mode(const json_t *value, const char *where, struct sync_file *ret, struct err *err)
{
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > 07777)
		return err_set(err, ERR_INVALID, "%s.mode must be permission bits, a number from 0 to 4095", where);
	ret->has_mode = true;
	ret->mode = (mode_t)json_integer_value(value);
	return 0;
}

static int check_path(const char *path, const char *where, const char *name, struct err *err)
{
	return *path ? 0 : err_set(err, ERR_INVALID, "%s.%s must not be empty", where, name);
}

static int read_file(const json_t *value, const char *where, struct sync_file *ret, struct err *err)
{
	static const struct field table[] = {
		{"kind", FIELD_STRING, offsetof(struct file_fields, kind), true},
		{"sourcePath", FIELD_STRING, offsetof(struct file_fields, source_path), true},
		{"targetPath", FIELD_STRING, offsetof(struct file_fields, target_path), true},
		{"exclude", FIELD_ARRAY, offsetof(struct file_fields, exclude), false},
		{"followSymlinks", FIELD_FLAG, offsetof(struct file_fields, follow_symlinks), false},
		{0},
	};
	struct file_fields f = {0};

	if (!json_is_object(value))
		return err_set(err, ERR_INVALID, "%s must be an object", where);
	if (fields_read(value, table, where, &f, err) < 0 || check_path(f.source_path, where, "sourcePath", err) < 0 ||
	    check_path(f.target_path, where, "targetPath", err) < 0)
		return -1;
	ret->is_directory = str_eq(f.kind, "directory");
	if (!ret->is_directory && !str_eq(f.kind, "file"))
		return err_set(err, ERR_INVALID, "%s.kind must be \"file\" or \"directory\"", where);
	ret->source_path = f.source_path;
	ret->target_path = f.target_path;
	ret->follow_symlinks = f.follow_symlinks;
	if (read_mode(json_object_get(value, "mode"), where, ret, err) < 0)
		return -1;
	return read_exclude(f.exclude, where, &ret->exclude, err);
}

static int read_command(const json_t *value, const char *where, struct sync_command *ret, struct err *err)
{
	static const struct field table[] = {
		{"command", FIELD_STRING, offsetof(struct sync_command, command), true},
		{"cwd", FIELD_STRING, offsetof(struct sync_command, cwd), false},
		{"timeoutMs", FIELD_NUMBER, offsetof(struct sync_command, timeout_ms), false},
		{0},
	};

	if (!json_is_object(value))
		return err_set(err, ERR_INVALID, "%s must be an object", where);
	return fields_read(value, table, where, ret, err);
}

struct operation_fields {
	const char *id;
	const json_t *files, *commands;
};

static int read_operation(const json_t *value, size_t number, struct sync_operation *ret, struct err *err)
{
	static const struct field table[] = {
		{"operationId", FIELD_STRING, offsetof(struct operation_fields, id), true},
		{"files", FIELD_ARRAY, offsetof(struct operation_fields, files), true},
		{"postUploadCommands", FIELD_ARRAY, offsetof(struct operation_fields, commands), false},
		{0},
	};
	cleanup_free char *where = xasprintf("params.operations[%zu]", number);
	struct operation_fields f = {0};

	if (!json_is_object(value))
		return err_set(err, ERR_INVALID, "%s must be an object", where);
	if (fields_read(value, table, where, &f, err) < 0)
		return -1;
	ret->operation_id = f.id;
	ret->file_count = json_array_size(f.files);
	ret->files = xcalloc(ret->file_count + 1, sizeof *ret->files);
	ret->command_count = json_array_size(f.commands);
	ret->commands = xcalloc(ret->command_count + 1, sizeof *ret->commands);
	for (size_t i = 0; i < ret->file_count; i++) {
		cleanup_free char *place = xasprintf("%s.files[%zu]", where, i);
		if (read_file(json_array_get(f.files, i), place, &ret->files[i], err) < 0)
			return -1;
	}
	for (size_t i = 0; i < ret->command_count; i++) {
		cleanup_free char *place = xasprintf("%s.postUploadCommands[%zu]", where, i);
		if (read_command(json_array_get(f.commands, i), place, &ret->commands[i], err) < 0)
			return -1;
	}
	return 0;
}

static int read_sync(const struct op *op, struct sync_params *ret, struct err *err)
{
	const json_t *operations = json_object_get(op->params, "operations");

	if (read_request_base(op, &ret->base, err) < 0 || read_lease_ref(op, &ret->lease, err) < 0)
		return -1;
	if (!json_is_array(operations))
		return err_set(err, ERR_INVALID, "params.operations must be an array");
	ret->count = json_array_size(operations);
	ret->operations = xcalloc(ret->count + 1, sizeof *ret->operations);
	for (size_t i = 0; i < ret->count; i++) {
		if (read_operation(json_array_get(operations, i), i, &ret->operations[i], err) < 0)
			return -1;
	}
	return 0;
}

static void sync_params_deinit(struct sync_params *p)
{
	for (size_t i = 0; p->operations && i < p->count; i++) {
		struct sync_operation *operation = &p->operations[i];
		for (size_t k = 0; operation->files && k < operation->file_count; k++)
			strv_deinit(&operation->files[k].exclude);
		free(operation->files);
		free(operation->commands);
	}
	free(p->operations);
}

static json_t *sync_result(const struct sync_params *p, const struct sync_report *reports)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->count; i++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "operationId", p->operations[i].operation_id,
						      "filesTransferred", (json_int_t)reports[i].files, "bytesTransferred",
						      (json_int_t)reports[i].bytes));
	return json_pack("{s:o}", "operations", list);
}

typedef int sync_fn(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err);

static int serve_sync(struct op *op, sync_fn *fn, json_t **ret, struct err *err)
{
	struct sync_params p = {0};
	int rc = read_sync(op, &p, err);

	if (rc == 0) {
		cleanup_free struct sync_report *reports = xcalloc(p.count + 1, sizeof *reports);
		op->lease_key = op_lease_key(p.base.driver_key, p.base.company_id, p.base.environment_id,
					     p.lease.provider_lease_id);
		rc = fn(op, &p, reports, err);
		if (rc == 0)
			*ret = sync_result(&p, reports);
	}
	sync_params_deinit(&p);
	return rc;
}

int serve_sync_in(struct op *op, json_t **ret, struct err *err)
{
	return serve_sync(op, op->provider->sync_in, ret, err);
}

int serve_sync_out(struct op *op, json_t **ret, struct err *err)
{
	return serve_sync(op, op->provider->sync_out, ret, err);
}
