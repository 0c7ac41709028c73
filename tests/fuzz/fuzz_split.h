/*
 * fuzz_split: a stream gives the same events however it is cut. The first two bytes of the input steer the cuts, the rest is the
 * stream. A codec is played by `play`, which feeds pieces by calling `feed` until that fails.
 */
#ifndef TESTS_FUZZ_SPLIT_H
#define TESTS_FUZZ_SPLIT_H

#include "base/buf.h"
#include "base/err.h"
#include "fuzz.h"

#include <string.h>

/* Feeds one piece; -1 ends the stream. */
typedef int feed_fn(void *codec, const void *bytes, size_t n);

static inline int feed_pieces(void *codec, feed_fn *feed, const uint8_t *data, size_t size, unsigned pattern)
{
	size_t step = pattern ? 1u + pattern % 7u : size;
	int rc = 0;

	for (size_t at = 0, count; rc == 0 && at < size; at += count) {
		count = step < size - at ? step : size - at;
		uint8_t *piece = malloc(count); /* its end is watched by the sanitizer */

		memcpy(piece, data + at, count);
		rc = feed(codec, piece, count);
		free(piece);
		step = pattern ? 1 + (step * 5 + pattern) % 100 : size;
	}
	return rc;
}

/* Plays the stream from its start to its end and notes what came out. */
typedef void play_fn(const uint8_t *data, size_t size, unsigned pattern, struct buf *log);

static inline int require_same_however_cut(const uint8_t *data, size_t size, play_fn *play)
{
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED);

	if (size < 2)
		return 0;
	play(data + 2, size - 2, 0, &whole);
	for (int i = 0; i < 2; i++) {
		cleanup_buf struct buf cut = BUF_INIT(BUF_UNBOUNDED);

		play(data + 2, size - 2, data[i] | 1u, &cut);
		REQUIRE(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0));
	}
	return 0;
}

#endif
