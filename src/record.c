#include "record.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fiber.h"
#include "protocol/json_read.h"
#include "protocol/json_write.h"
#include "protocol/mask.h"
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct record {
	FILE *file;
	json_t *secret_keys; /* owned */
	int64_t start_ms;
};

int record_open(const char *path, json_t *secret_keys, struct record **ret, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0) {
		int number = errno;

		json_decref(secret_keys);
		return err_set_errno(err, number, "open %s", path);
	}
	struct record *r = xcalloc(1, sizeof(*r));

	r->file = fdopen(fd, "w");
	if (!r->file)
		abort();
	r->secret_keys = secret_keys;
	r->start_ms = -1;
	*ret = r;
	return 0;
}

void record_close(struct record *r)
{
	if (!r)
		return;
	fclose(r->file);
	json_decref(r->secret_keys);
	free(r);
}

static void write_message(struct record *r, struct buf *entry, const char *line, size_t len)
{
	cleanup_json json_t *message = NULL;

	if (utf8_is_valid(line, len) && json_read(line, len, &message, NULL) == 0) {
		mask_secrets(message, r->secret_keys);
		buf_append_str(entry, "\"line\":");
		json_write_value(entry, message);
		return;
	}
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct utf8_repair repair = {0};

	utf8_repair_append(&repair, line, len, &text);
	utf8_repair_finish(&repair, &text);
	buf_append_str(entry, "\"raw\":");
	json_write_string(entry, text.data ? text.data : "", text.len);
}

void record_line(struct record *r, bool out, const char *line, size_t len)
{
	cleanup_buf struct buf entry = BUF_INIT(BUF_UNBOUNDED), masked = BUF_INIT(BUF_UNBOUNDED);

	if (r->start_ms < 0)
		r->start_ms = loop_now_ms();
	buf_printf(&entry, "{\"t\":%lld,\"dir\":\"%s\",", (long long)(loop_now_ms() - r->start_ms), out ? "out" : "in");
	write_message(r, &entry, line, len);
	buf_append_str(&entry, "}\n");
	const struct buf *written = secret_mask(entry.data, entry.len, &masked) ? &masked : &entry;

	fwrite(written->data, 1, written->len, r->file);
	fflush(r->file);
}
