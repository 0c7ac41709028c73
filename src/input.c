#include "input.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "fd_watch.h"

#include <errno.h>
#include <unistd.h>

#define PIECE_BYTES 65536

static int too_big(size_t max, struct err *err)
{
	return err_set(err, ERR_INVALID, "the standard input is bigger than %zu bytes", max);
}

/* watch NULL: a regular file, which is always ready. repair NULL: the bytes as they are. */
static int read_to_end(int fd, struct fd_watch *watch, struct utf8_repair *repair, size_t max, struct buf *ret, struct err *err)
{
	cleanup_free char *room = xmalloc(PIECE_BYTES);

	for (size_t total = 0;;) {
		if (watch && fd_watch_wait(watch, FD_READABLE, err) < 0)
			return -1;
		ssize_t got = read(fd, room, PIECE_BYTES);

		if (got == 0) {
			if (repair)
				utf8_repair_finish(repair, ret);
			return 0;
		}
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			return err_set_errno(err, errno, "read the standard input");
		if (got < 0)
			continue;
		total += (size_t)got;
		if (total > max)
			return too_big(max, err);
		if (repair)
			utf8_repair_append(repair, room, (size_t)got, ret);
		else
			buf_append(ret, room, (size_t)got);
	}
}

static int read_all(const struct input *input, struct utf8_repair *repair, size_t max, struct buf *ret, struct err *err)
{
	struct fd_watch *watch = NULL;
	cleanup_err struct err e = ERR_INIT;
	size_t len = input->len - input->taken;

	if (len > max)
		return too_big(max, err);
	if (len > 0)
		buf_append(ret, input->data + input->taken, len);
	if (input->fd < 0)
		return 0;
	if (fd_watch_create_shared(input->fd, &watch, &e) < 0 && !err_is(&e, ERR_UNSUPPORTED))
		return err_move(err, &e);
	int rc = read_to_end(input->fd, watch, repair, max - len, ret, err);

	fd_watch_destroy(watch);
	return rc;
}

int input_read_text(const struct input *input, size_t max, struct buf *ret, struct err *err)
{
	struct utf8_repair repair = {0};

	return read_all(input, &repair, max, ret, err);
}

int input_read_bytes(const struct input *input, size_t max, struct buf *ret, struct err *err)
{
	return read_all(input, NULL, max, ret, err);
}
