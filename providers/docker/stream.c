/*
 * wire: docker, 4. Podman adds a frame of its own to stderr when the service's connection to the command's input or output ends before it:
 * "Error: write unixpacket …/attach: …". It is no output of the command, and always the last frame; so a small frame that begins like it is
 * held back until it is known whether anything follows.
 */
#include "docker.h"

#include "protocol/docker_frame.h"

#include <string.h>

#define NOTE_START "Error: "
#define NOTE_MAX 512

struct docker_stream {
	const struct docker_command *command;
	struct docker_frames frames;
	struct buf note;      /* what may be Podman's own, whole or in part */
	bool note_is_whole;
};

static int give(struct docker_stream *s, enum output_stream stream, const char *bytes, size_t n, struct err *err)
{
	return s->command->on_output && n > 0 ? s->command->on_output(s->command->arg, stream, bytes, n, err) : 0;
}

static int release_note(struct docker_stream *s, struct err *err)
{
	struct buf note = s->note;

	if (note.len == 0)
		return 0;
	s->note = BUF_INIT(NOTE_MAX);
	s->note_is_whole = false;
	int rc = give(s, OUTPUT_STDERR, note.data, note.len, err);

	buf_deinit(&note);
	return rc;
}

static bool may_be_note(const struct docker_stream *s)
{
	size_t n = strlen(NOTE_START) < s->note.len ? strlen(NOTE_START) : s->note.len;

	return memcmp(s->note.data, NOTE_START, n) == 0;
}

/* A piece of a stderr frame that is small enough. */
static int hold(struct docker_stream *s, const struct docker_piece *piece, struct err *err)
{
	buf_append(&s->note, piece->bytes, piece->n);
	s->note_is_whole = piece->offset + piece->n == piece->frame_size;
	return may_be_note(s) ? 0 : release_note(s, err);
}

static int on_piece(void *arg, const struct docker_piece *piece, struct err *err)
{
	struct docker_stream *s = arg;
	bool is_error = piece->type == DOCKER_STDERR || piece->type == DOCKER_SYSTEM_ERROR;

	if (s->note_is_whole && release_note(s, err) < 0)
		return -1;
	if (is_error && piece->frame_size <= NOTE_MAX && (piece->offset == 0 || s->note.len > 0))
		return hold(s, piece, err);
	return give(s, is_error ? OUTPUT_STDERR : OUTPUT_STDOUT, piece->bytes, piece->n, err);
}

struct docker_stream *docker_stream_create(const struct docker_command *command)
{
	struct docker_stream *s = xcalloc(1, sizeof *s);

	s->command = command;
	s->note = BUF_INIT(NOTE_MAX);
	docker_frames_init(&s->frames, on_piece, s);
	return s;
}

void docker_stream_destroy(struct docker_stream *s)
{
	if (!s)
		return;
	buf_deinit(&s->note);
	free(s);
}

int docker_stream_feed(struct docker_stream *s, const char *bytes, size_t n, struct err *err)
{
	return docker_frames_feed(&s->frames, bytes, n, err);
}

static bool is_note(const struct buf *text)
{
	return text->len > 0 && memmem(text->data, text->len, "unixpacket", strlen("unixpacket")) &&
	       memmem(text->data, text->len, "/attach:", strlen("/attach:"));
}

int docker_stream_finish(struct docker_stream *s, struct err *err)
{
	if (docker_frames_finish(&s->frames, err) < 0) {
		release_note(s, NULL);
		return -1;
	}
	if (is_note(&s->note))
		buf_reset(&s->note);
	return release_note(s, err);
}
