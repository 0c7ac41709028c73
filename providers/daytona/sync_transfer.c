/* wire: daytona, Upload and Download: many files in one request, of which no more than a piece is in memory. */
#include "sync.h"

#include "protocol/multipart.h"
#include "tree_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define REFUSAL_MAX 16384

/* --- up --- */

/* The request's body: each file's path, head, bytes, tail. */
struct upload {
	const struct daytona_upload_file *files;
	size_t count;
	size_t next;
	struct tree_pack *archive;
	char boundary[MULTIPART_BOUNDARY_SIZE];
	struct buf staged; /* what stands between the files' bytes */
	int fd;            /* of the present file; -1: none */
	bool in_archive;
	bool ended;
	uint64_t bytes;
};

static int begin_file(struct upload *u, struct err *err)
{
	const struct daytona_upload_file *file = &u->files[u->next];
	struct stat st;
	cleanup_free char *path_name = xasprintf("files[%zu].path", u->next);
	cleanup_free char *file_name = xasprintf("files[%zu].file", u->next);

	if (file->from) {
		/* O_NONBLOCK: a FIFO in the file's place must not hang us. */
		u->fd = open(file->from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (u->fd < 0 || fstat(u->fd, &st) < 0)
			return err_set_errno(err, errno, "open %s", file->from);
		if (!S_ISREG(st.st_mode))
			return err_set(err, ERR_INVALID, "%s is not a regular file", file->from);
	}
	u->in_archive = !file->from;
	multipart_write_field(&u->staged, u->boundary, path_name, file->path);
	multipart_write_file_head(&u->staged, u->boundary, file_name, daytona_base_name(file->path), "application/octet-stream");
	u->next++;
	return 0;
}

static int read_bytes(struct upload *u, void *room, size_t n, size_t *ret_n, struct err *err)
{
	ssize_t got;

	if (u->in_archive)
		return tree_pack_read(u->archive, room, n, ret_n, err);
	do
		got = read(u->fd, room, n);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_set_errno(err, errno, "read %s", u->files[u->next - 1].from);
	*ret_n = (size_t)got;
	return 0;
}

/* More of the body is staged, or *ret_n of it is in the room. */
static int go_on(struct upload *u, void *room, size_t n, size_t *ret_n, struct err *err)
{
	if (u->fd >= 0 || u->in_archive) {
		if (read_bytes(u, room, n, ret_n, err) < 0)
			return -1;
		u->bytes += *ret_n;
		if (*ret_n > 0)
			return 0;
		u->fd = close_fd(u->fd);
		u->in_archive = false;
		multipart_write_file_tail(&u->staged);
		return 0;
	}
	if (u->next < u->count)
		return begin_file(u, err);
	multipart_write_end(&u->staged, u->boundary);
	u->ended = true;
	return 0;
}

static int read_upload(void *arg, void *room, size_t n, size_t *ret_n, struct err *err)
{
	struct upload *u = arg;

	*ret_n = 0;
	while (u->staged.len == 0 && *ret_n == 0 && !u->ended) {
		if (go_on(u, room, n, ret_n, err) < 0)
			return -1;
	}
	if (*ret_n > 0)
		return 0;
	*ret_n = u->staged.len < n ? u->staged.len : n;
	if (*ret_n > 0) {
		memcpy(room, u->staged.data, *ret_n);
		buf_consume(&u->staged, *ret_n);
	}
	return 0;
}

static int send_upload(const struct daytona_sync *sync, struct upload *u, struct err *err)
{
	cleanup_free char *url = daytona_url(sync->sandbox->toolbox, "/files/bulk-upload", NULL);
	cleanup_free char *type = xasprintf("multipart/form-data; boundary=%s", u->boundary);
	const struct http_piece piece = {.kind = HTTP_PIECE_SOURCE, .size = -1, .read = read_upload, .arg = u};
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "POST",
		.url = url,
		.body = {.pieces = &piece, .count = 1},
		.content_type = type,
		.accept = "*/*",
		.deadline_ms = sync->seconds * 1000,
		.repeat = HTTP_REPEAT_UNSENT,
		.long_lived = true,
	};

	if (daytona_perform(sync->op, sync->c, &call, &answer, err) < 0)
		return -1;
	return daytona_check_upload(&answer, err);
}

int daytona_upload_files(const struct daytona_sync *sync, const struct daytona_upload_file *files, size_t count,
			 struct tree_pack *archive, uint64_t *ret_bytes, struct err *err)
{
	unsigned char random[MULTIPART_RANDOM_BYTES];
	struct upload u = {.files = files, .count = count, .archive = archive, .staged = BUF_INIT(BUF_UNBOUNDED), .fd = -1};

	random_bytes(random, sizeof random);
	multipart_boundary(random, u.boundary);
	int rc = daytona_find_toolbox(sync->op, sync->c, sync->sandbox, err);
	if (rc == 0)
		rc = send_upload(sync, &u, err);
	*ret_bytes = u.bytes;
	close_fd(u.fd);
	buf_deinit(&u.staged);
	return rc;
}

/* --- down --- */

struct download {
	struct daytona_download_file *files;
	size_t count;
	struct daytona_download_file *present; /* NULL: one that nobody asked for */
	bool is_refusal;
	struct buf refusal;
	struct multipart multipart;
	bool begun;
};

static int on_part(void *arg, const struct multipart_part *part, struct err *err)
{
	struct download *d = arg;

	d->present = NULL;
	d->is_refusal = str_eq(part->name, "error");
	buf_reset(&d->refusal);
	for (size_t i = 0; i < d->count && !d->present; i++) {
		if (str_eq(d->files[i].path, part->filename))
			d->present = &d->files[i];
	}
	return 0;
}

static int on_data(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct download *d = arg;

	if (d->is_refusal) {
		size_t left = REFUSAL_MAX - d->refusal.len;
		buf_append(&d->refusal, bytes, n < left ? n : left);
		return 0;
	}
	if (!d->present)
		return 0;
	d->present->bytes += n;
	while (n > 0) {
		ssize_t k = write(d->present->fd, bytes, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_set_errno(err, errno, "write a file of the download");
		bytes += k;
		n -= (size_t)k;
	}
	return 0;
}

/* JSON with a message, or the plain text of an old daemon. */
static char *refusal_text(const struct buf *refusal)
{
	const char *text = refusal->data ? refusal->data : "";
	cleanup_json json_t *json = json_loadb(text, refusal->len, JSON_ALLOW_NUL, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));

	return xstrdup(message ? message : text);
}

static int on_end(void *arg, struct err *err)
{
	struct download *d = arg;

	if (d->present && d->is_refusal) {
		free(d->present->refusal);
		d->present->refusal = refusal_text(&d->refusal);
	} else if (d->present) {
		d->present->complete = true;
	}
	return 0;
}

static int on_answer(void *arg, const struct http_response *response, enum http_take *ret, struct err *err)
{
	struct download *d = arg;
	const struct multipart_events events = {on_part, on_data, on_end, d};

	*ret = http_is_success(response) ? HTTP_STREAM : HTTP_COLLECT;
	if (*ret == HTTP_COLLECT)
		return 0;
	const char *type = http_header(response, "content-type");
	d->begun = true;
	return multipart_init(&d->multipart, type ? type : "", &events, err);
}

static int on_body(void *arg, const char *bytes, size_t n, struct err *err)
{
	struct download *d = arg;

	return multipart_feed(&d->multipart, bytes, n, err);
}

static int receive(const struct daytona_sync *sync, struct download *d, struct err *err)
{
	cleanup_free char *url = daytona_url(sync->sandbox->toolbox, "/files/bulk-download", NULL);
	cleanup_json json_t *body = json_pack("{s:[]}", "paths");
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "POST",
		.url = url,
		.json = body,
		.accept = "multipart/form-data",
		.deadline_ms = sync->seconds * 1000,
		.repeat = HTTP_REPEAT_REJECTED,
		.on_answer = on_answer,
		.on_body = on_body,
		.arg = d,
	};

	for (size_t i = 0; i < d->count; i++)
		json_array_append_new(json_object_get(body, "paths"), json_string(d->files[i].path));
	if (daytona_perform(sync->op, sync->c, &call, &answer, err) < 0)
		return -1;
	return d->begun ? multipart_finish(&d->multipart, err)
			: err_set(err, ERR_PROTOCOL, "Daytona answered a download without any file.");
}

int daytona_download_files(const struct daytona_sync *sync, struct daytona_download_file *files, size_t count, struct err *err)
{
	struct download d = {.files = files, .count = count, .refusal = BUF_INIT(REFUSAL_MAX)};
	int rc = daytona_find_toolbox(sync->op, sync->c, sync->sandbox, err);

	if (rc == 0)
		rc = receive(sync, &d, err);
	multipart_deinit(&d.multipart);
	buf_deinit(&d.refusal);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (!files[i].complete && !files[i].refusal)
			rc = err_set(err, ERR_PROTOCOL, "Daytona's download ended before %s.", files[i].path);
	}
	return rc;
}
