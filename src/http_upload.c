/*
 * A request's body: curl asks for bytes (http_upload_on_read) and gets them from the present piece. What has to be waited for is read by
 * a fiber of its own (http_upload_fill) into `staged`; while that is empty, curl pauses the upload and the fiber resumes it.
 */
#include "http_internal.h"

#include "base/mem.h"
#include "fd_watch.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define STAGED_MAX 65536

struct http_piece http_input_piece(const struct input *input)
{
	if (input->fd < 0)
		return HTTP_PIECE(input->data + input->taken, input->len - input->taken);
	return (struct http_piece){.kind = HTTP_PIECE_FD, .fd = input->fd};
}

/* The size of a descriptor's content; -1: it has to be read to know. */
static int64_t descriptor_size(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1;
}

static bool is_source(const struct http_piece *piece)
{
	return piece->kind == HTTP_PIECE_SOURCE || (piece->kind == HTTP_PIECE_FD && descriptor_size(piece->fd) < 0);
}

static int64_t piece_size(const struct http_piece *piece)
{
	return piece->kind == HTTP_PIECE_FD ? descriptor_size(piece->fd) : piece->size;
}

static const struct http_piece *source_of(const struct http_upload *u)
{
	for (size_t i = 0; i < u->count; i++)
		if (is_source(&u->pieces[i]))
			return &u->pieces[i];
	return NULL;
}

int http_upload_init(struct http_upload *u, const struct http_body *body, struct http_handle *handle, struct err *err)
{
	unsigned sources = 0;

	*u = (struct http_upload){.pieces = body->pieces, .count = body->count, .handle = handle, .staged = BUF_INIT(STAGED_MAX)};
	if (u->count == 0) {
		u->whole = HTTP_PIECE(body->bytes, body->size);
		u->pieces = &u->whole;
		u->count = 1;
	}
	for (size_t i = 0; i < u->count; i++) {
		int64_t size = piece_size(&u->pieces[i]);

		sources += is_source(&u->pieces[i]);
		u->size = size < 0 || u->size < 0 ? -1 : u->size + size;
	}
	if (sources > 1)
		return err_set(err, ERR_INVALID, "a request's body can have one source only");
	return 0;
}

void http_upload_deinit(struct http_upload *u)
{
	buf_wipe(&u->staged);
	err_clear(&u->err);
}

bool http_upload_has_source(const struct http_upload *u)
{
	return source_of(u) != NULL;
}

const struct http_piece *http_upload_bytes(const struct http_upload *u)
{
	return u->count == 1 && u->pieces[0].kind == HTTP_PIECE_BYTES ? &u->pieces[0] : NULL;
}

/* --- for curl --- */

static size_t read_bytes(struct http_upload *u, const struct http_piece *piece, char *room, size_t n)
{
	size_t left = (size_t)((uint64_t)piece->size - u->offset);

	if (n > left)
		n = left;
	if (n > 0)
		memcpy(room, (const char *)piece->bytes + u->offset, n);
	u->offset += n;
	return n;
}

/* A regular file: its pages come from the cache or, for once, make the loop wait for the disk. */
static size_t read_file(struct http_upload *u, const struct http_piece *piece, char *room, size_t n)
{
	ssize_t got;

	do
		got = pread(piece->fd, room, n, (off_t)u->offset);
	while (got < 0 && errno == EINTR);
	if (got < 0) {
		u->cut_short = true;
		return CURL_READFUNC_ABORT;
	}
	u->offset += (uint64_t)got;
	return (size_t)got;
}

static size_t read_source(struct http_upload *u, char *room, size_t n)
{
	if (u->err.kind != ERR_NONE)
		return CURL_READFUNC_ABORT;
	if (u->staged.len == 0 && !u->source_ended) {
		u->handle->send_paused = true;
		return CURL_READFUNC_PAUSE;
	}
	if (n > u->staged.len)
		n = u->staged.len;
	if (n > 0) {
		memcpy(room, u->staged.data, n);
		buf_consume(&u->staged, n);
		u->offset += n;
		event_set(&u->room);
	}
	return n;
}

static size_t read_piece(struct http_upload *u, char *room, size_t n)
{
	const struct http_piece *piece = &u->pieces[u->piece];

	if (piece->kind == HTTP_PIECE_BYTES)
		return read_bytes(u, piece, room, n);
	return is_source(piece) ? read_source(u, room, n) : read_file(u, piece, room, n);
}

size_t http_upload_on_read(char *room, size_t size, size_t count, void *arg)
{
	struct http_upload *u = arg;

	uint64_t left = u->size >= 0 ? (uint64_t)u->size - u->given : SIZE_MAX;
	size_t want = size * count < left ? size * count : (size_t)left;

	while (u->piece < u->count && want > 0) {
		size_t n = read_piece(u, room, want);

		if (n == CURL_READFUNC_ABORT || n == CURL_READFUNC_PAUSE)
			return n;
		u->given += n;
		if (n > 0)
			return n;
		u->piece++;
		u->offset = 0;
	}
	/* A file or source that ends before the size that the service was told. */
	u->cut_short = u->size >= 0 && left > 0;
	return u->cut_short ? CURL_READFUNC_ABORT : 0;
}

/* curl starts again on a fresh connection: only from the start, and only if all of it can be read again. */
int http_upload_on_seek(void *arg, curl_off_t offset, int origin)
{
	struct http_upload *u = arg;

	if (offset != 0 || origin != SEEK_SET || u->source_used)
		return CURL_SEEKFUNC_FAIL;
	u->piece = 0;
	u->offset = u->given = 0;
	return CURL_SEEKFUNC_OK;
}

/* --- the source --- */

/* watch NULL: it is always readable. */
static int read_descriptor(struct fd_watch *watch, int fd, void *room, size_t n, size_t *ret_n, struct err *err)
{
	for (;;) {
		if (watch && fd_watch_wait(watch, FD_READABLE, err) < 0)
			return -1;
		ssize_t got = read(fd, room, n);

		if (got >= 0) {
			*ret_n = (size_t)got;
			return 0;
		}
		if (errno != EAGAIN && errno != EINTR)
			return err_set_errno(err, errno, "read the request's body");
	}
}

static int stage(struct http_upload *u, const struct http_piece *piece, struct fd_watch *watch, struct err *err)
{
	while (!u->source_ended) {
		size_t n = STAGED_MAX - u->staged.len, got = 0;

		if (n == 0) {
			if (event_wait(&u->room, err) < 0)
				return -1;
			continue;
		}
		/* Apart from `staged`, which curl empties meanwhile. */
		cleanup_free char *room = xmalloc(n);
		int rc = piece->kind == HTTP_PIECE_FD ? read_descriptor(watch, piece->fd, room, n, &got, err)
						      : piece->read(piece->arg, room, n, &got, err);

		if (rc < 0)
			return -1;
		u->source_ended = got == 0;
		buf_append(&u->staged, room, got);
		mem_wipe(room, got);
		http_handle_resume_sending(u->handle);
	}
	return 0;
}

void http_upload_fill(void *arg)
{
	struct http_upload *u = arg;
	const struct http_piece *piece = source_of(u);
	struct fd_watch *watch = NULL;
	cleanup_err struct err e = ERR_INIT;
	int rc = piece->kind == HTTP_PIECE_FD ? fd_watch_create_shared(piece->fd, &watch, &e) : 0;

	u->source_used = true;
	if (rc < 0 && !err_is(&e, ERR_UNSUPPORTED)) /* devices like /dev/null */
		err_move(&u->err, &e);
	else
		rc = stage(u, piece, watch, &u->err);
	if (rc < 0)
		event_set(&u->handle->event);
	fd_watch_destroy(watch);
}
