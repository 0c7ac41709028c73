/*
 * wire: daytona, environmentSyncOut. A script copies the files, through descriptors that it has checked, to scratch names; these are downloaded to
 * temporary names beside their targets on this machine, and renamed once all are there. Directories come as one archive each, of which
 * nothing is extracted before all of it was checked.
 */
#include "sync.h"

#include "fs.h"
#include "tree_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define GUARD "outbound symlink-escape guard"
#define FILE_MODE 0644

/* --- files on this machine, until they are complete --- */

struct landing {
	const struct sync_file *file;
	char *temporary; /* owned; NULL: there is none */
	int fd;
};

static int landing_open(struct landing *landing, const struct sync_file *file, mode_t mode, struct err *err)
{
	cleanup_free char *parent = daytona_parent_path(file->target_path);
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *path = xasprintf("%s/.paperclip-download-%s", strcmp(parent, "/") == 0 ? "" : parent, uuid);

	landing->file = file;
	if (fs_make_dirs(parent, 0755, err) < 0)
		return -1;
	/* Never readable by more than it will be. */
	landing->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (landing->fd < 0)
		return err_set_errno(err, errno, "create %s", path);
	landing->temporary = steal(&path);
	return 0;
}

static int landing_rename(struct landing *landing, struct err *err)
{
	const struct sync_file *file = landing->file;

	/* The umask took bits away. */
	if (file->has_mode && fchmod(landing->fd, file->mode) < 0)
		return err_set_errno(err, errno, "set the mode of %s", landing->temporary);
	if (rename(landing->temporary, file->target_path) < 0)
		return err_set_errno(err, errno, "rename to %s", file->target_path);
	free(steal(&landing->temporary));
	return 0;
}

static void landing_close(struct landing *landing)
{
	if (landing->temporary)
		unlink(landing->temporary);
	free(landing->temporary);
	close_fd(landing->fd);
}

/* --- files --- */

static int copy_to_scratch(const struct daytona_sync *sync, const struct sync_file *const *files, const struct strv *scratch,
			   struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	daytona_script_begin(&script, sync);
	/* Which kind of file it is, is asked of what was opened; a FIFO would not even open. */
	daytona_script_line(&script, "take() {");
	daytona_script_line(&script, "[ -e \"$1\" ] || { inside \"$1\" || { echo ESCAPE; exit 42; }; echo NOTREG; exit 45; }");
	daytona_script_line(&script, "inside \"$1\" || { echo ESCAPE; exit 42; }");
	daytona_script_line(&script, "[ -f \"$p\" ] || { echo NOTREG; exit 45; }");
	daytona_script_line(&script, "hold \"$1\"; [ -f /proc/self/fd/9 ] || { echo NOTREG; exit 45; }");
	daytona_script_line(&script, "cat <&9 >\"$2\" || { echo 'snapshot copy failed'; exit 43; }");
	daytona_script_line(&script, "}");
	daytona_script_line(&script, "umask 077");
	for (size_t i = 0; i < scratch->count; i++) {
		cleanup_free char *source = daytona_normalize_path(files[i]->source_path);
		cleanup_free char *source_word = daytona_quoted(source);
		cleanup_free char *scratch_word = daytona_quoted(scratch->items[i]);
		daytona_script_line(&script, "take %s %s", source_word, scratch_word);
	}
	return daytona_script_run(sync, &script, GUARD, GUARD, err);
}

static int receive_files(const struct daytona_sync *sync, struct landing *landings, const struct strv *scratch,
			 struct daytona_download_file *downloads, struct err *err)
{
	for (size_t i = 0; i < scratch->count; i++) {
		mode_t mode = landings[i].file->has_mode ? landings[i].file->mode : FILE_MODE;
		if (landing_open(&landings[i], landings[i].file, mode, err) < 0)
			return -1;
		downloads[i] = (struct daytona_download_file){.path = scratch->items[i], .fd = landings[i].fd};
	}
	if (daytona_download_files(sync, downloads, scratch->count, err) < 0)
		return -1;
	for (size_t i = 0; i < scratch->count; i++) {
		if (downloads[i].refusal)
			return err_set(err, ERR_REMOTE, "Daytona syncOut download failed for %s: %s",
				       landings[i].file->source_path, downloads[i].refusal);
	}
	for (size_t i = 0; i < scratch->count; i++) {
		if (landing_rename(&landings[i], err) < 0)
			return -1;
	}
	return 0;
}

static int land_files(const struct daytona_sync *sync, const struct sync_file *const *files, const struct strv *scratch,
		      struct sync_report *ret, struct err *err)
{
	cleanup_free struct landing *landings = xcalloc(scratch->count, sizeof *landings);
	cleanup_free struct daytona_download_file *downloads = xcalloc(scratch->count, sizeof *downloads);

	for (size_t i = 0; i < scratch->count; i++)
		landings[i] = (struct landing){.file = files[i], .fd = -1};
	int rc = receive_files(sync, landings, scratch, downloads, err);
	for (size_t i = 0; i < scratch->count; i++) {
		landing_close(&landings[i]);
		free(downloads[i].refusal);
		ret->bytes += downloads[i].bytes;
	}
	ret->files += scratch->count;
	return rc;
}

static int sync_files(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
		      struct err *err)
{
	cleanup_strv struct strv scratch = {0};
	cleanup_free const struct sync_file **files = xcalloc(operation->file_count + 1, sizeof *files);
	const char *root = strcmp(sync->cwd, "/") == 0 ? "" : sync->cwd;

	for (size_t i = 0; i < operation->file_count; i++) {
		cleanup_free char *uuid = random_uuid();
		if (operation->files[i].is_directory)
			continue;
		files[scratch.count] = &operation->files[i];
		strv_addf(&scratch, "%s/.paperclip-download-%s", root, uuid);
	}
	if (scratch.count == 0)
		return 0;
	int rc = copy_to_scratch(sync, files, &scratch, err);
	if (rc == 0)
		rc = land_files(sync, files, &scratch, ret, err);
	daytona_sync_remove(sync, &scratch);
	return rc;
}

/* --- directories --- */

/* In /tmp: the directory may be the working directory itself, and must not change while it is archived. */
static int archive(const struct daytona_sync *sync, const struct sync_file *file, const char *scratch, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *source = daytona_normalize_path(file->source_path);
	cleanup_free char *source_word = daytona_quoted(source);

	daytona_script_begin(&script, sync);
	daytona_script_line(&script, "inside %s || { echo ESCAPE:%s; exit 42; }", source_word, source_word);
	daytona_script_line(&script, "hold %s; umask 077", source_word);
	buf_printf(&script, "tar -c%sf %s", file->follow_symlinks ? "h" : "", scratch);
	for (size_t i = 0; i < file->exclude.count; i++) {
		cleanup_free char *pattern = daytona_quoted(file->exclude.items[i]);
		buf_printf(&script, " --exclude %s", pattern);
	}
	daytona_script_line(&script, " -C /proc/self/fd/9 .");
	return daytona_script_run(sync, &script, "syncOut tar", GUARD, err);
}

static int unpack(const struct sync_file *file, struct landing *landing, struct sync_report *ret, struct err *err)
{
	struct tree_unpack unpack = {
		.member_refused = "Daytona syncOut refusing tarball member that escapes the extraction dir: ",
		.link_refused = "Daytona syncOut refusing tarball link whose target escapes the extraction dir: ",
	};

	if (tree_unpack(&unpack, landing->fd, file->target_path, err) < 0)
		return -1;
	ret->files += unpack.files;
	if (file->has_mode && chmod(file->target_path, file->mode) < 0)
		return err_set_errno(err, errno, "set the mode of %s", file->target_path);
	return 0;
}

static int land_directory(const struct daytona_sync *sync, const struct sync_file *file, const char *scratch,
			  struct sync_report *ret, struct err *err)
{
	struct landing landing = {.fd = -1};
	struct daytona_download_file download = {.path = scratch};
	cleanup_err struct err e = ERR_INIT;
	int rc = landing_open(&landing, file, 0600, err);

	if (rc == 0) {
		download.fd = landing.fd;
		rc = daytona_download_files(sync, &download, 1, &e);
		if (rc < 0 && err_is(&e, ERR_CANCELLED))
			err_move(err, &e);
		else if (rc < 0 || download.refusal)
			rc = err_set(err, ERR_REMOTE, "Daytona syncOut directory download failed for %s: %s", file->source_path,
				     download.refusal ? download.refusal : err_text(&e));
	}
	if (rc == 0)
		rc = unpack(file, &landing, ret, err);
	ret->bytes += download.bytes;
	free(download.refusal);
	landing_close(&landing);
	return rc;
}

static int sync_directory(const struct daytona_sync *sync, const struct sync_file *file, struct sync_report *ret, struct err *err)
{
	cleanup_free char *uuid = random_uuid();
	cleanup_strv struct strv scratch = {0};

	strv_addf(&scratch, "/tmp/paperclip-download-%s.tar", uuid);
	int rc = archive(sync, file, scratch.items[0], err);
	if (rc == 0)
		rc = land_directory(sync, file, scratch.items[0], ret, err);
	daytona_sync_remove(sync, &scratch);
	return rc;
}

int daytona_sync_operation_out(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
			       struct err *err)
{
	if (sync_files(sync, operation, ret, err) < 0)
		return -1;
	for (size_t i = 0; i < operation->file_count; i++) {
		if (operation->files[i].is_directory && sync_directory(sync, &operation->files[i], ret, err) < 0)
			return -1;
	}
	return 0;
}
