#include "base/mem.h"
#include "base/utf8.h"
#include "loop.h"
#include "output_internal.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

/* What was sent live, by stream, and how. */
struct seen {
	struct buf live[2];
	size_t pieces;
	size_t largest;
	bool valid;
};

static void note_live(void *arg, enum output_stream stream, const char *text, size_t len)
{
	struct seen *seen = arg;

	buf_append(&seen->live[stream], text, len);
	seen->pieces++;
	if (len > seen->largest)
		seen->largest = len;
	seen->valid = seen->valid && len > 0 && utf8_is_valid(text, len);
}

static struct seen seen_new(void)
{
	return (struct seen){.live = {BUF_INIT(BUF_UNBOUNDED), BUF_INIT(BUF_UNBOUNDED)}, .valid = true};
}

static void seen_deinit(struct seen *seen)
{
	buf_deinit(&seen->live[0]);
	buf_deinit(&seen->live[1]);
}

/* The final text of a stream, as the host would read it: new string. */
static char *final_text(struct output *out, enum output_stream stream, size_t *ret_len)
{
	struct message *m = message_create();
	struct buf text = BUF_INIT(BUF_UNBOUNDED);

	output_give(out, stream, m);
	message_copy_text(m, &text);
	message_destroy(m);
	*ret_len = text.len;
	return buf_steal(&text);
}

struct case_bytes {
	const char *bytes;
	size_t len;
	const char *want;
};

/* Writes the bytes cut at every place: the text and the live prefix must not depend on it. */
static void cut_everywhere(void *arg)
{
	const struct case_bytes *c = arg;

	for (size_t cut = 0; cut <= c->len; cut++) {
		struct seen seen = seen_new();
		struct output *out = output_create(&(struct output_sink){.live = note_live, .arg = &seen});
		size_t len;

		CHECK_INT(output_write(out, OUTPUT_STDOUT, c->bytes, cut, NULL), 0);
		CHECK_INT(output_write(out, OUTPUT_STDOUT, c->bytes + cut, c->len - cut, NULL), 0);
		output_finish(out);
		cleanup_free char *text = final_text(out, OUTPUT_STDOUT, &len);

		CHECK_STR(text, c->want);
		CHECK_MEM(seen.live[0].data, seen.live[0].len, text, len);
		CHECK(seen.valid);
		CHECK_INT(output_bytes(out, OUTPUT_STDOUT), c->len);
		seen_deinit(&seen);
		output_destroy(out);
	}
}

TEST(text_and_live_output_do_not_depend_on_where_the_bytes_were_cut)
{
	struct case_bytes cases[] = {
		{"plain", 5, "plain"},
		{"h\xc3\xa9llo \xf0\x9f\x98\x80!", 12, "h\xc3\xa9llo \xf0\x9f\x98\x80!"},
		{"a\xff\xe2\x82z\xf0\x9f", 7, "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_in_loop(cut_everywhere, &cases[i]);
}

static void settle_at_the_end(void *arg)
{
	static const struct {
		const char *shown, *final, *live;
	} cases[] = {
		{"", "whole", "whole"},
		{"who", "whole", "whole"},
		{"whole", "whole", "whole"},
		{"wole", "whole", "wole"}, /* a piece was missing */
		{"whole and more", "whole", "whole and more"},
		{"x", "", "x"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct seen seen = seen_new();
		struct output *out = output_create(&(struct output_sink){.live = note_live, .arg = &seen});
		size_t len;

		output_put(out, OUTPUT_STDOUT, cases[i].shown, strlen(cases[i].shown));
		output_settle(out, OUTPUT_STDOUT, cases[i].final, strlen(cases[i].final));
		output_finish(out);
		cleanup_free char *text = final_text(out, OUTPUT_STDOUT, &len);

		CHECK_STR(text ? text : "", cases[i].final);
		CHECK_MEM(seen.live[0].data, seen.live[0].len, cases[i].live, strlen(cases[i].live));
		CHECK_INT(output_bytes(out, OUTPUT_STDOUT), strlen(cases[i].final));
		seen_deinit(&seen);
		output_destroy(out);
	}
}

TEST(a_final_text_completes_what_was_shown_or_takes_its_place)
{
	run_in_loop(settle_at_the_end, NULL);
}

static void print_too_much(void *arg)
{
	struct seen seen = seen_new();
	struct output *out = output_create(&(struct output_sink){.live = note_live, .arg = &seen});
	size_t block = 1 << 20, blocks = 200, len;
	char *bytes = xmalloc(block);
	json_t *metadata = NULL;

	(void)arg;
	for (size_t i = 0; i < blocks; i++) {
		memset(bytes, 'a' + (int)(i % 26), block);
		output_put(out, OUTPUT_STDOUT, bytes, block);
	}
	output_put(out, OUTPUT_STDOUT, "the end", 7);
	output_finish(out);
	output_describe_cuts(out, &metadata);
	char *text = final_text(out, OUTPUT_STDOUT, &len);

	CHECK(len < (size_t)97 << 20);
	CHECK(len > (size_t)90 << 20);
	CHECK_STR(text + len - 7, "the end");
	CHECK(seen.live[0].len > (size_t)60 << 20);
	CHECK(seen.live[0].len < len && memcmp(text, seen.live[0].data, seen.live[0].len) == 0);
	CHECK(seen.largest <= 65536);
	CHECK(strstr(text + seen.live[0].len, "bytes of output left out here]\n"));
	CHECK(json_is_true(json_object_get(metadata, "stdoutTruncated")));
	CHECK_INT(json_integer_value(json_object_get(metadata, "stdoutBytes")), blocks * block + 7);
	CHECK(!json_object_get(metadata, "stderrTruncated"));
	free(text);
	free(bytes);
	json_decref(metadata);
	seen_deinit(&seen);
	output_destroy(out);
}

TEST(beyond_the_cap_head_and_tail_are_kept_and_live_output_is_a_prefix)
{
	run_in_loop(print_too_much, NULL);
}

static void print_controls(void *arg)
{
	struct output *out = output_create(&(struct output_sink){0});
	size_t block = 1 << 20, len;
	char *bytes = xcalloc(1, block);
	struct buf line = BUF_INIT(BUF_UNBOUNDED);

	(void)arg;
	for (int i = 0; i < 64; i++)
		output_put(out, OUTPUT_STDERR, bytes, block);
	output_finish(out);
	char *text = final_text(out, OUTPUT_STDERR, &len);

	/* 24 MiB escaped: six bytes each. */
	CHECK(len <= ((size_t)24 << 20) / 6 + 100);
	CHECK(len > ((size_t)20 << 20) / 6);
	free(text);
	free(bytes);
	buf_deinit(&line);
	output_destroy(out);
}

TEST(the_cap_counts_escaped_bytes)
{
	run_in_loop(print_controls, NULL);
}

static void print_many_small(void *arg)
{
	struct seen seen = seen_new();
	struct output *out = output_create(&(struct output_sink){.live = note_live, .arg = &seen});
	size_t len;

	(void)arg;
	for (int i = 0; i < 10000; i++) {
		output_put(out, i % 2 ? OUTPUT_STDERR : OUTPUT_STDOUT, "x\n", 2);
		if (i == 5000)
			fiber_sleep(30, NULL);
	}
	/* All of it came in well under a second: a piece each 10 ms a stream is few. */
	CHECK(seen.pieces >= 2);
	CHECK(seen.pieces < 2000);
	output_finish(out);
	cleanup_free char *text = final_text(out, OUTPUT_STDERR, &len);

	CHECK_INT(len, 10000);
	CHECK_MEM(seen.live[1].data, seen.live[1].len, text, len);
	seen_deinit(&seen);
	output_destroy(out);
}

TEST(small_writes_are_sent_live_in_few_pieces_by_the_timer)
{
	run_in_loop(print_many_small, NULL);
}

static size_t a_full_queue(void *arg)
{
	(void)arg;
	return (size_t)2 << 30;
}

static void print_behind_a_queue(void *arg)
{
	struct output *out = output_create(&(struct output_sink){.queued = a_full_queue});
	size_t block = 1 << 20, len;
	char *bytes = xmalloc(block);

	(void)arg;
	memset(bytes, 'x', block);
	for (int i = 0; i < 8; i++)
		output_put(out, OUTPUT_STDOUT, bytes, block);
	output_put(out, OUTPUT_STDOUT, "the end", 7);
	output_finish(out);
	char *text = final_text(out, OUTPUT_STDOUT, &len);

	CHECK(len < (size_t)256 << 10);
	CHECK_STR(text + len - 7, "the end");
	free(text);
	free(bytes);
	output_destroy(out);
}

TEST(while_the_host_leaves_a_gigabyte_lying_only_small_tails_are_kept)
{
	run_in_loop(print_behind_a_queue, NULL);
}

static int refuse_wait(void *arg, struct err *err)
{
	++*(int *)arg;
	return err_set(err, ERR_CANCELLED, "cancelled");
}

static void write_while_cancelled(void *arg)
{
	int waits = 0;
	struct output *out = output_create(&(struct output_sink){.wait = refuse_wait, .arg = &waits});
	size_t len;
	cleanup_err struct err err = ERR_INIT;

	(void)arg;
	CHECK_INT(output_write(out, OUTPUT_STDOUT, "kept", 4, &err), -1);
	CHECK(err_is(&err, ERR_CANCELLED));
	output_put(out, OUTPUT_STDOUT, "!", 1);
	CHECK_INT(waits, 1);
	output_finish(out);
	cleanup_free char *text = final_text(out, OUTPUT_STDOUT, &len);

	CHECK_STR(text, "kept!");
	output_destroy(out);
}

TEST(bytes_of_a_write_that_fails_to_wait_are_captured_all_the_same)
{
	run_in_loop(write_while_cancelled, NULL);
}

TEST_MAIN()
