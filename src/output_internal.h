/* output_internal: the worker's side of an output (output.h is the provider's). */
#ifndef OUTPUT_INTERNAL_H
#define OUTPUT_INTERNAL_H

#include "channel.h"
#include "output.h"

struct output_sink {
	/* A piece of live text: valid UTF-8, at most 64 KiB, ends at a character's border. NULL: nobody watches live. */
	void (*live)(void *arg, enum output_stream stream, const char *text, size_t len);
	/* Waits until the live pieces are taken. */
	int (*wait)(void *arg, struct err *err);
	/* Takes the raw bytes themselves instead of all else: nothing is captured then (command line). NULL: the above. */
	void (*raw)(void *arg, enum output_stream stream, const void *bytes, size_t len);
	/* Bytes of earlier results that the host has not taken yet; they count as kept. NULL: none. */
	size_t (*queued)(void *arg);
	void *arg;
};

struct output *output_create(const struct output_sink *sink);
void output_destroy(struct output *out);
/* The command has ended: what is held back becomes text, the rest of the live output is sent. */
void output_finish(struct output *out);
/* After output_finish: hands the stream's text, with the marker where something was left out, over to the message. */
void output_give(struct output *out, enum output_stream stream, struct message *m);
/* Adds what was cut, and how much, to the metadata object; *metadata is made if it is NULL and something was cut. */
void output_describe_cuts(const struct output *out, json_t **metadata);
/* Bytes that the command has printed to the stream, as they came. */
size_t output_bytes(const struct output *out, enum output_stream stream);

#endif
