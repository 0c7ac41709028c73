/*
 * wire: ssh, Telling the outcomes apart. A mark is a line: \001, B or E, the nonce, and ":" with a text, which B may lack. Bytes that may be
 * the start of one are held back until it is clear.
 */
#include "ssh.h"

#include <stdlib.h>
#include <string.h>

#define MARK_BYTES_MAX 96
#define NOISE_MAX 4096

void ssh_marks_init(struct ssh_marks *m, const char *nonce, process_output_fn *put, void *arg)
{
	*m = (struct ssh_marks){.put = put, .arg = arg};
	memcpy(m->nonce, nonce, SSH_NONCE_BYTES);
	for (int i = 0; i < 2; i++) {
		m->streams[i].held = BUF_INIT(BUF_UNBOUNDED);
		m->streams[i].noise = BUF_INIT(NOISE_MAX);
	}
}

void ssh_marks_deinit(struct ssh_marks *m)
{
	for (int i = 0; i < 2; i++) {
		buf_deinit(&m->streams[i].held);
		buf_deinit(&m->streams[i].noise);
	}
}

/* One reading of some bytes. */
struct feeding {
	struct ssh_marks *m;
	enum output_stream stream;
	bool may_wait;
	int rc;
	struct err *err;
};

static void pass_on(struct feeding *f, const char *bytes, size_t n)
{
	struct ssh_stream *s = &f->m->streams[f->stream];

	if (n == 0)
		return;
	if (s->at == SSH_BEFORE) {
		size_t room = s->noise.max - s->noise.len;
		buf_append(&s->noise, bytes, n < room ? n : room);
	} else if (f->m->put && f->m->put(f->m->arg, f->stream, bytes, n, f->may_wait && f->rc == 0, f->rc == 0 ? f->err : NULL) < 0) {
		f->rc = -1;
	}
}

/* What the mark says after the nonce. */
static void take_begin(struct ssh_marks *m, struct ssh_stream *s, const char *text)
{
	s->at = SSH_INSIDE;
	if (*text == ':')
		m->pid = strtol(text + 1, NULL, 10);
}

static void take_end(struct ssh_marks *m, struct ssh_stream *s, const char *text)
{
	char *end;

	s->at = SSH_AFTER;
	m->code = (int)strtol(text + 1, &end, 10);
	if (*end == ':' && strlen(end + 1) < sizeof m->word)
		memcpy(m->word, end + 1, strlen(end + 1) + 1);
}

/* Looks at bytes that begin with \001. 0: more are needed; -1: no mark; else its length. */
static int try_mark(struct ssh_marks *m, struct ssh_stream *s, const char *bytes, size_t n)
{
	size_t nonce_len = SSH_NONCE_BYTES - 1;
	char kind = s->at == SSH_BEFORE ? 'B' : 'E';
	size_t prefix = 2 + nonce_len;

	if (s->at == SSH_AFTER || (n > 1 && bytes[1] != kind))
		return -1;
	if (n > 2 && memcmp(bytes + 2, m->nonce, (n < prefix ? n : prefix) - 2) != 0)
		return -1;
	if (n > prefix && bytes[prefix] != ':' && (kind == 'E' || bytes[prefix] != '\n'))
		return -1;
	const char *end = n > prefix ? memchr(bytes + prefix, '\n', n - prefix) : NULL;
	if (!end)
		return n < MARK_BYTES_MAX ? 0 : -1;
	size_t len = (size_t)(end - bytes);
	if (len >= MARK_BYTES_MAX)
		return -1;
	cleanup_free char *text = xstrndup(bytes + prefix, len - prefix);

	if (kind == 'B')
		take_begin(m, s, text);
	else
		take_end(m, s, text);
	return (int)len + 1;
}

/* Returns how many of the bytes are dealt with: the rest may become a mark. */
static size_t scan(struct feeding *f, const char *bytes, size_t n)
{
	struct ssh_stream *s = &f->m->streams[f->stream];
	size_t done = 0, at = 0;

	while (at < n) {
		const char *start = memchr(bytes + at, '\001', n - at);
		if (!start)
			break;
		at = (size_t)(start - bytes);
		enum ssh_mark before = s->at;
		size_t plain = at - done;
		int len;
		/* The bytes in front belong to what the stream was before the mark. */
		if ((len = try_mark(f->m, s, start, n - at)) > 0) {
			enum ssh_mark after = s->at;
			s->at = before;
			pass_on(f, bytes + done, plain);
			s->at = after;
			at += (size_t)len;
			done = at;
		} else if (len == 0) {
			pass_on(f, bytes + done, plain);
			return at;
		} else {
			at++;
		}
	}
	pass_on(f, bytes + done, n - done);
	return n;
}

int ssh_marks_feed(struct ssh_marks *m, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct feeding f = {.m = m, .stream = stream, .may_wait = may_wait, .err = err};
	struct buf *held = &m->streams[stream].held;

	if (held->len == 0) {
		size_t done = scan(&f, bytes, n);
		buf_append(held, bytes + done, n - done);
	} else {
		/* Scanning may wait, and others must find the state whole: the bytes are taken out meanwhile. */
		cleanup_buf struct buf all = *held;
		*held = BUF_INIT(BUF_UNBOUNDED);
		buf_append(&all, bytes, n);
		size_t done = scan(&f, all.data, all.len);
		buf_append(held, all.data + done, all.len - done);
	}
	return f.rc;
}

void ssh_marks_finish(struct ssh_marks *m)
{
	for (int i = 0; i < 2; i++) {
		struct feeding f = {.m = m, .stream = (enum output_stream)i};
		pass_on(&f, m->streams[i].held.data, m->streams[i].held.len);
		buf_reset(&m->streams[i].held);
	}
}

bool ssh_marks_have_begun(const struct ssh_marks *m)
{
	return m->streams[0].at != SSH_BEFORE || m->streams[1].at != SSH_BEFORE;
}

bool ssh_marks_have_ended(const struct ssh_marks *m)
{
	return m->streams[0].at == SSH_AFTER && m->streams[1].at == SSH_AFTER;
}
