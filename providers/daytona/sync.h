/*
 * wire: daytona, environmentSyncIn, environmentSyncOut. What both ways share.
 *
 * A sandbox's content is not trusted: its commands may put symbolic links wherever we are about to read or write. So a path is checked by its
 * text, then resolved in the sandbox by a script, which opens what it has checked as a descriptor and works through that.
 */
#ifndef DAYTONA_SYNC_H
#define DAYTONA_SYNC_H

#include "daytona.h"

struct daytona_sync {
	struct op *op;
	const struct daytona_config *c;
	struct daytona_sandbox *sandbox;
	char *cwd;       /* owned; the lease's working directory, normalised */
	int64_t seconds; /* of one step */
};

/* --- sync_path.c --- */

/* Absolute, without ".", "", ".." and a slash at the end; NULL: it is not absolute. Owned. */
char *daytona_normalize_path(const char *path);
/* -1, ERR_INVALID: the path is no absolute one in cwd. what: "target path" or the like. */
int daytona_sync_check_path(const char *cwd, const char *path, const char *what, struct err *err);
/* Of a normalised path. Owned. */
char *daytona_parent_path(const char *path);
/* What follows the last slash. Borrowed. */
const char *daytona_base_name(const char *path);

/* --- sync_script.c --- */

/*
 * Scripts run in a shell of their own, sh, whatever the image's shell is. Their words: `inside PATH` sets p to the path as it really is and
 * fails unless it lies in the root; `hold PATH` does so, opens it as descriptor 9 and checks what was opened, and ends the script if that fails.
 */
void daytona_script_begin(struct buf *out, const struct daytona_sync *sync);
void daytona_script_line(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A word in quotes; owned. */
char *daytona_quoted(const char *word);
/*
 * Runs it; waits. -1, ERR_REMOTE `Daytona <label> command failed (exit <n>): <output>`, where guard_label stands for the failures of guards
 * (exit codes 40 to 42).
 */
int daytona_script_run(const struct daytona_sync *sync, struct buf *script, const char *label, const char *guard_label,
		       struct err *err);
/* Removes these files of the sandbox, whatever else happens; takes a few seconds at most. */
void daytona_sync_remove(const struct daytona_sync *sync, const struct strv *paths);

/* --- sync_transfer.c --- */

/* One file of an upload. */
struct daytona_upload_file {
	const char *path; /* in the sandbox; borrowed */
	const char *from; /* file of this machine; borrowed. NULL: the archive */
};

/* Uploads them in one request. archive: what the file without `from` holds, or NULL. *ret_bytes: of all of them. Waits. */
struct tree_pack;
int daytona_upload_files(const struct daytona_sync *sync, const struct daytona_upload_file *files, size_t count,
			 struct tree_pack *archive, uint64_t *ret_bytes, struct err *err);

/* One file of a download. */
struct daytona_download_file {
	const char *path; /* in the sandbox; borrowed */
	int fd;           /* where its bytes go; borrowed */
	bool complete;
	char *refusal; /* owned; what the service says of it; NULL: nothing */
	uint64_t bytes;
};

/* Downloads them in one request. A file that the service refuses is no failure of the call. Waits. */
int daytona_download_files(const struct daytona_sync *sync, struct daytona_download_file *files, size_t count, struct err *err);

/* --- sync_in.c, sync_out.c: one operation whose paths have been checked by their text --- */

int daytona_sync_operation_in(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
			      struct err *err);
int daytona_sync_operation_out(const struct daytona_sync *sync, const struct sync_operation *operation, struct sync_report *ret,
			       struct err *err);

#endif
