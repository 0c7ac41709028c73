/*
 * One lease on the disk: <state>/leases/<id>/ with
 *
 *	lease.json            whose it is, what its sandbox looks like, when it ends
 *	home tmp workspace    what commands may write to
 *
 * The directory is locked (flock) by the worker that uses it; the kernel drops the lock with the process. Its time of modification
 * says when it was used last. Only home, tmp and workspace are shown to the sandbox.
 */
#include "local.h"

#include "base/mem.h"
#include "fs.h"
#include "protocol/host_time.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_NAME "lease.json"
#define FILE_BYTES_MAX (1u << 20)
#define FORMAT_VERSION 1
/* A run whose worker crashed may go on with the next worker: its lease is not taken from under it. */
#define ABANDONED_MS (60 * 60 * 1000)
/* What was kept for inspection. */
#define ARCHIVED_MS (24 * 60 * 60 * 1000)
/* A directory without a readable lease.json may be one that is just being made. */
#define BROKEN_MS (60 * 1000)

const char *lease_id_parse(const char *provider_lease_id)
{
	if (!provider_lease_id || !str_starts_with(provider_lease_id, LOCAL_LEASE_SCHEME))
		return NULL;
	const char *id = provider_lease_id + strlen(LOCAL_LEASE_SCHEME);
	return strlen(id) == LEASE_ID_LEN && strspn(id, "0123456789abcdef") == LEASE_ID_LEN ? id : NULL;
}

int64_t local_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int make_id(char id[LEASE_ID_LEN + 1], struct err *err)
{
	unsigned char bytes[LEASE_ID_LEN / 2];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return err_set_errno(err, errno, "random bytes for a lease id");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static void set_place(struct lease_record *r, const char *state_dir, const char *id)
{
	memcpy(r->id, id, LEASE_ID_LEN + 1);
	r->state_dir = xstrdup(state_dir);
	r->dir = xasprintf("%s/leases/%s", state_dir, id);
}

/* --- lease.json --- */

static json_t *text_or_null(const char *text)
{
	json_t *value = text ? json_string(text) : NULL;

	return value ? value : json_null();
}

int lease_record_save(const struct lease_record *r, struct err *err)
{
	cleanup_json json_t *object = json_pack("{s:i, s:o, s:o, s:O, s:b, s:b}", "version", FORMAT_VERSION, "company",
						text_or_null(r->company), "environment", text_or_null(r->environment), "shape",
						r->shape, "reusable", r->reusable, "archived", r->archived);
	char time[ISO_TIME_BYTES];

	if (r->expires_ms >= 0)
		json_object_set_new(object, "expiresAt", json_string(iso_time_format(r->expires_ms, time)));
	cleanup_free char *text = json_dumps(object, JSON_INDENT(2));
	if (!text)
		return err_set(err, ERR_INVALID, "lease %s cannot be described", r->id);
	return fs_write_file_atomic(r->dir_fd, FILE_NAME, text, strlen(text), 0600, err);
}

static char *dup_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? xstrdup(text) : NULL;
}

static int load(struct lease_record *r)
{
	cleanup_buf struct buf text = BUF_INIT(FILE_BYTES_MAX);
	cleanup_json json_t *object = NULL;

	if (fs_read_file(r->dir_fd, FILE_NAME, &text, NULL) < 0)
		return -1;
	object = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	if (json_integer_value(json_object_get(object, "version")) != FORMAT_VERSION ||
	    !json_is_object(json_object_get(object, "shape")))
		return -1;
	const char *expires = json_string_value(json_object_get(object, "expiresAt"));
	r->company = dup_text(object, "company");
	r->environment = dup_text(object, "environment");
	r->shape = json_incref(json_object_get(object, "shape"));
	r->reusable = json_is_true(json_object_get(object, "reusable"));
	r->archived = json_is_true(json_object_get(object, "archived"));
	r->expires_ms = expires ? iso_time_parse(expires) : -1;
	return 0;
}

/* --- the directory --- */

static int make_parts(const struct lease_record *r, struct err *err)
{
	static const struct {
		const char *name;
		mode_t mode;
	} parts[] = {{"home", 0755}, {"tmp", 01777}, {"workspace", 0755}};

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		/* chmod: the worker's umask is not the sandbox's. */
		if (mkdirat(r->dir_fd, parts[i].name, 0700) < 0 || fchmodat(r->dir_fd, parts[i].name, parts[i].mode, 0) < 0)
			return err_set_errno(err, errno, "make directory %s/%s", r->dir, parts[i].name);
	}
	return 0;
}

int lease_record_create(const char *state_dir, struct lease_record *r, struct err *err)
{
	char id[LEASE_ID_LEN + 1];

	if (make_id(id, err) < 0)
		return -1;
	set_place(r, state_dir, id);
	if (mkdir(r->dir, 0700) < 0)
		return err_set_errno(err, errno, "make directory %s", r->dir);
	r->dir_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r->dir_fd >= 0 && flock(r->dir_fd, LOCK_EX | LOCK_NB) == 0 && make_parts(r, err) == 0 &&
	    lease_record_save(r, err) == 0)
		return 0;
	err_set_errno(err, errno, "lock %s", r->dir);
	(void)fs_remove_tree_now(r->dir, NULL);
	return -1;
}

static int open_dir(struct lease_record *r, struct err *err)
{
	r->dir_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r->dir_fd < 0 && errno == ENOENT)
		return err_set(err, ERR_NOT_FOUND, "no directory");
	return r->dir_fd < 0 ? err_set_errno(err, errno, "open %s", r->dir) : 0;
}

static int lock_dir(struct lease_record *r, struct err *err)
{
	struct stat opened, named;

	if (flock(r->dir_fd, LOCK_EX | LOCK_NB) < 0) {
		int number = errno;
		r->dir_fd = close_fd(r->dir_fd);
		if (number == EWOULDBLOCK)
			return err_set(err, ERR_CONFLICT, "Local sandbox lease %s%s is in use by another worker on this machine.",
				       LOCAL_LEASE_SCHEME, r->id);
		return err_set_errno(err, number, "lock %s", r->dir);
	}
	/* Between the open and the lock another worker may have removed it. */
	if (fstat(r->dir_fd, &opened) == 0 && stat(r->dir, &named) == 0 && opened.st_ino == named.st_ino)
		return 0;
	r->dir_fd = close_fd(r->dir_fd);
	return err_set(err, ERR_NOT_FOUND, "no directory");
}

int lease_record_peek(const char *state_dir, const char *id, struct lease_record *ret, struct err *err)
{
	*ret = LEASE_RECORD_INIT;
	set_place(ret, state_dir, id);
	if (open_dir(ret, err) < 0)
		return -1;
	ret->broken = load(ret) < 0;
	return 0;
}

int lease_record_open(const char *state_dir, const char *id, struct lease_record *ret, struct err *err)
{
	*ret = LEASE_RECORD_INIT;
	set_place(ret, state_dir, id);
	if (open_dir(ret, err) < 0 || lock_dir(ret, err) < 0)
		return -1;
	ret->broken = load(ret) < 0;
	return ret->broken ? err_set(err, ERR_NOT_FOUND, "lease.json cannot be read") : 0;
}

void lease_record_touch(const struct lease_record *r)
{
	(void)futimens(r->dir_fd, NULL); /* if it fails, only the sweep's patience is shorter */
}

static int64_t unused_ms(const struct lease_record *r)
{
	struct stat st;

	return fstat(r->dir_fd, &st) < 0 ? 0 : local_now_ms() - (int64_t)st.st_mtim.tv_sec * 1000;
}

bool lease_record_is_stale(const struct lease_record *r)
{
	if (r->broken)
		return unused_ms(r) > BROKEN_MS;
	if (r->expires_ms >= 0 && r->expires_ms <= local_now_ms())
		return true;
	if (r->archived)
		return unused_ms(r) > ARCHIVED_MS;
	return !r->reusable && unused_ms(r) > ABANDONED_MS;
}

int lease_record_remove(struct lease_record *r, struct err *err)
{
	cleanup_free char *trash = xasprintf("%s/trash/%s", r->state_dir, r->id);

	if (rename(r->dir, trash) < 0 && errno != ENOENT)
		return err_set_errno(err, errno, "remove %s", r->dir);
	return fs_remove_tree(trash, err);
}

void lease_record_deinit(struct lease_record *r)
{
	if (!r)
		return;
	free(r->state_dir);
	free(r->dir);
	free(r->company);
	free(r->environment);
	json_decref(r->shape);
	close_fd(r->dir_fd);
	*r = LEASE_RECORD_INIT;
}
