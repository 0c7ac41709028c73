/*
 * wire: daytona, environmentSyncIn. Files go to scratch names in the working directory, and are renamed to their places by a script that holds
 * the directories open. Directories go there as one archive each, which is extracted in the same way. Then the operation's commands run.
 */
#include "sync.h"

#include "protocol/js_value.h"
#include "tree_pack.h"

#include <string.h>

#define GUARD "inbound symlink-escape guard"
#define CWD_GUARD "post-upload command cwd symlink-escape guard"

static char *scratch_path(const struct daytona_sync *sync, const char *suffix)
{
	cleanup_free char *uuid = random_uuid();

	return xasprintf("%s/.paperclip-upload-%s%s", strcmp(sync->cwd, "/") == 0 ? "" : sync->cwd, uuid, suffix);
}

/*
 * Makes the directories. The nearest one that is there already is looked at before, so that nothing is made through a link that leads
 * out; and all of it again afterwards.
 */
static int make_directories(const struct daytona_sync *sync, const struct strv *paths, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	daytona_script_begin(&script, sync);
	daytona_script_line(&script, "dir() {");
	daytona_script_line(&script,
			    "at=$1; while [ ! -e \"$at\" ] && [ ! -L \"$at\" ]; do at=${at%%/*}; [ -n \"$at\" ] || at=/; done");
	daytona_script_line(&script, "inside \"$at\" || { echo \"ESCAPE:$1\"; exit 42; }");
	daytona_script_line(&script, "mkdir -p \"$1\" || exit 1");
	daytona_script_line(&script, "inside \"$1\" || { echo \"ESCAPE:$1\"; exit 42; }");
	daytona_script_line(&script, "}");
	for (size_t i = 0; i < paths->count; i++) {
		cleanup_free char *word = daytona_quoted(paths->items[i]);
		daytona_script_line(&script, "dir %s", word);
	}
	return daytona_script_run(sync, &script, "syncIn mkdir", GUARD, err);
}

static void add_once(struct strv *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i], item) == 0)
			return;
	}
	strv_add(list, item);
}

/* --- files --- */

/* mv -T: a directory, or a link to one, that has the file's name is not what the file should go into. Not every mv has it. */
static void write_rename(struct buf *script, const char *scratch, const char *target, const struct sync_file *file)
{
	cleanup_free char *parent = daytona_parent_path(target);
	cleanup_free char *parent_word = daytona_quoted(parent);
	cleanup_free char *name_word = daytona_quoted(daytona_base_name(target));
	cleanup_free char *scratch_word = daytona_quoted(scratch);

	daytona_script_line(script, "hold %s", parent_word);
	if (file->has_mode)
		daytona_script_line(script, "chmod %o %s || { echo 'rename failed'; exit 43; }", (unsigned)file->mode,
				    scratch_word);
	daytona_script_line(script, "put %s %s", scratch_word, name_word);
}

static int rename_files(const struct daytona_sync *sync, const struct sync_file *const *files, const struct strv *targets,
			const struct strv *scratch, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	daytona_script_begin(&script, sync);
	daytona_script_line(&script, "put() {");
	daytona_script_line(&script, "to=/proc/self/fd/9/$2; mv -f -T \"$1\" \"$to\" 2>/dev/null && return");
	daytona_script_line(&script, "{ [ ! -d \"$to\" ] || [ -L \"$to\" ]; } && rm -f \"$to\" && mv -f \"$1\" \"$to\" || { echo "
				     "'rename failed'; exit 43; }");
	daytona_script_line(&script, "}");
	for (size_t i = 0; i < targets->count; i++)
		write_rename(&script, scratch->items[i], targets->items[i], files[i]);
	return daytona_script_run(sync, &script, "syncIn rename", "syncIn rename", err);
}

static int transfer_files(const struct daytona_sync *sync, const struct sync_file *const *files, const struct strv *targets,
			  const struct strv *scratch, struct sync_report *ret, struct err *err)
{
	cleanup_free struct daytona_upload_file *uploads = xcalloc(targets->count, sizeof *uploads);
	uint64_t bytes;

	for (size_t i = 0; i < targets->count; i++)
		uploads[i] = (struct daytona_upload_file){scratch->items[i], files[i]->source_path};
	if (daytona_upload_files(sync, uploads, targets->count, NULL, &bytes, err) < 0 ||
	    rename_files(sync, files, targets, scratch, err) < 0)
		return -1;
	ret->files += targets->count;
	ret->bytes += bytes;
	return 0;
}

static int sync_files(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
		      struct err *err)
{
	cleanup_strv struct strv targets = {0};
	cleanup_strv struct strv scratch = {0};
	cleanup_strv struct strv parents = {0};
	cleanup_free const struct sync_file **files = xcalloc(operation->file_count + 1, sizeof *files);

	for (size_t i = 0; i < operation->file_count; i++) {
		const struct sync_file *file = &operation->files[i];
		if (file->is_directory)
			continue;
		files[targets.count] = file;
		strv_take(&targets, daytona_normalize_path(file->target_path));
		strv_take(&scratch, scratch_path(sync, ""));
		cleanup_free char *parent = daytona_parent_path(targets.items[targets.count - 1]);
		add_once(&parents, parent);
	}
	if (targets.count == 0)
		return 0;
	if (make_directories(sync, &parents, err) < 0)
		return -1;
	if (transfer_files(sync, files, &targets, &scratch, ret, err) == 0)
		return 0;
	daytona_sync_remove(sync, &scratch);
	return -1;
}

/* --- directories --- */

static int extract(const struct daytona_sync *sync, const struct sync_file *file, const char *target, const char *scratch,
		   struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *target_word = daytona_quoted(target);
	cleanup_free char *scratch_word = daytona_quoted(scratch);

	daytona_script_begin(&script, sync);
	daytona_script_line(&script, "hold %s", target_word);
	daytona_script_line(&script, "tar -xof %s -C /proc/self/fd/9 || { echo 'extract failed'; exit 43; }", scratch_word);
	if (file->has_mode)
		daytona_script_line(&script, "chmod %o /proc/self/fd/9/. || { echo 'extract failed'; exit 43; }",
				    (unsigned)file->mode);
	daytona_script_line(&script, "rm -f %s", scratch_word);
	return daytona_script_run(sync, &script, "syncIn extract", "syncIn extract", err);
}

static int transfer_directory(const struct daytona_sync *sync, const struct sync_file *file, const char *target,
			      const char *scratch, struct tree_pack *archive, struct err *err)
{
	const struct daytona_upload_file upload = {scratch, NULL};
	uint64_t bytes;

	if (daytona_upload_files(sync, &upload, 1, archive, &bytes, err) < 0)
		return -1;
	return extract(sync, file, target, scratch, err);
}

static int sync_directory(const struct daytona_sync *sync, const struct sync_file *file, struct sync_report *ret, struct err *err)
{
	cleanup_strv struct strv exclude = {0};
	cleanup_strv struct strv target = {0};
	cleanup_strv struct strv scratch = {0};
	struct tree_pack *archive;

	/* What macOS puts beside files. */
	strv_add(&exclude, "._*");
	for (size_t i = 0; i < file->exclude.count; i++)
		strv_add(&exclude, file->exclude.items[i]);
	strv_take(&target, daytona_normalize_path(file->target_path));
	strv_take(&scratch, scratch_path(sync, ".tar"));
	if (tree_pack_open(file->source_path, strv_list(&exclude), file->follow_symlinks, &archive, err) < 0)
		return -1;
	int rc = make_directories(sync, &target, err);
	if (rc == 0) {
		rc = transfer_directory(sync, file, target.items[0], scratch.items[0], archive, err);
		if (rc < 0)
			daytona_sync_remove(sync, &scratch);
	}
	ret->files += tree_pack_files(archive);
	ret->bytes += tree_pack_bytes(archive);
	tree_pack_close(archive);
	return rc;
}

/* --- commands --- */

static int guard_cwd(const struct daytona_sync *sync, const char *cwd, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *word = daytona_quoted(cwd);

	daytona_script_begin(&script, sync);
	daytona_script_line(&script, "inside %s || { echo ESCAPE:%s; exit 42; }", word, word);
	return daytona_script_run(sync, &script, CWD_GUARD, CWD_GUARD, err);
}

static int run_command(const struct daytona_sync *sync, const struct sync_command *command, struct err *err)
{
	cleanup_free char *cwd = command->cwd ? daytona_normalize_path(command->cwd) : NULL;
	cleanup_daytona_run struct daytona_run run = {0};
	int64_t seconds = command->timeout_ms > 0 ? daytona_seconds(command->timeout_ms) : sync->seconds;
	size_t len = 0;

	if (cwd && guard_cwd(sync, cwd, err) < 0)
		return -1;
	if (daytona_run_command(sync->op, sync->c, sync->sandbox, command->command, cwd ? cwd : sync->cwd, seconds, &run, err) <
	    0)
		return -1;
	if (run.timed_out)
		return err_set(err, ERR_REMOTE, "Daytona post-upload command timed out after %lld s: %s", (long long)seconds,
			       run.timeout_text);
	if (run.exit_code == 0)
		return 0;
	const char *output = js_trim(run.text, run.len, &len);
	return err_set(err, ERR_REMOTE, "Daytona post-upload command failed (exit %d): %.*s", run.exit_code,
		       len < 65536 ? (int)len : 65536, output);
}

int daytona_sync_operation_in(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
			      struct err *err)
{
	if (sync_files(sync, operation, ret, err) < 0)
		return -1;
	for (size_t i = 0; i < operation->file_count; i++) {
		if (operation->files[i].is_directory && sync_directory(sync, &operation->files[i], ret, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < operation->command_count; i++) {
		if (run_command(sync, &operation->commands[i], err) < 0)
			return -1;
	}
	return 0;
}
