/*
 * replay: a recorded session (record.h) played against a fresh worker, and its answers compared with the recorded ones.
 *
 * What the host knew when it sent a line, it knows here too: a line goes out when all answers that were recorded before it have come.
 * Requests that were in flight together are so again. Leases and directories have new names now; recorded requests are translated.
 */
#include "cli/cli.h"
#include "cli/replay_compare.h"
#include "cli/replay_worker.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_read.h"
#include "protocol/json_write.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define ENTRY_BYTES_MAX ((size_t)1 << 30)

/* A line of the recording. */
struct entry {
	bool out;
	json_t *message;   /* owned; NULL: it was no JSON */
	char *raw;         /* owned; then its text */
	char *id;          /* owned; of an answer: its id's text */
	char *method;      /* owned; of an answer: what was asked, if that is known */
	size_t occurrence; /* of an answer: how many with this id were before it */
	int64_t t_ms;
};

struct replay {
	struct entry *entries; /* owned */
	size_t count;
	struct replay_worker worker;
	struct replay_names names;
	size_t waited;  /* entries whose answers have come */
	int silence_ms;
	size_t compared, different;
	bool masked;
};

/* --- reading --- */

static void entry_deinit(struct entry *e)
{
	json_decref(e->message);
	free(e->raw);
	free(e->id);
	free(e->method);
}

static bool has_mask(const json_t *value)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(value))
		return strcmp(json_string_value(value), "***") == 0;
	json_array_foreach((json_t *)(uintptr_t)value, i, member)
		if (has_mask(member))
			return true;
	json_object_foreach((json_t *)(uintptr_t)value, key, member)
		if (has_mask(member))
			return true;
	return false;
}

/* Of an answer: which one it is, and to what. */
static void identify(struct replay *r, struct entry *e)
{
	if (!e->out || !e->message || json_object_get(e->message, "method"))
		return;
	e->id = replay_id_text(e->message);
	for (size_t i = 0; e->id && i < r->count; i++) {
		const struct entry *before = &r->entries[i];
		const char *method = before->out ? NULL : json_string_value(json_object_get(before->message, "method"));

		if (before->out && before->id && strcmp(before->id, e->id) == 0)
			e->occurrence++;
		if (!method)
			continue;
		cleanup_free char *id = replay_id_text(before->message);

		if (id && strcmp(id, e->id) == 0) {
			free(e->method);
			e->method = xstrdup(method);
		}
	}
}

static int read_entry(struct replay *r, const char *line, size_t len, struct err *err)
{
	cleanup_json json_t *object = NULL;
	struct entry e = {0};

	if (!utf8_is_valid(line, len) || json_read(line, len, &object, err) < 0)
		return err_set(err, ERR_INVALID, "not valid UTF-8");
	const char *dir = json_string_value(json_object_get(object, "dir"));
	const json_t *raw = json_object_get(object, "raw");

	e.message = json_incref(json_object_get(object, "line"));
	if (!dir || (strcmp(dir, "in") != 0 && strcmp(dir, "out") != 0) || (!e.message && !json_is_string(raw))) {
		entry_deinit(&e);
		return err_set(err, ERR_INVALID, "not a line of a recording");
	}
	e.out = strcmp(dir, "out") == 0;
	e.raw = e.message ? NULL : xstrdup(json_string_value(raw));
	e.t_ms = (int64_t)json_number_value(json_object_get(object, "t"));
	if (!e.out && e.message && has_mask(e.message))
		r->masked = true;
	identify(r, &e);
	r->entries = xrealloc(r->entries, (r->count + 1) * sizeof(*r->entries));
	r->entries[r->count++] = e;
	return 0;
}

static int read_recording(struct replay *r, const char *path, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct ndjson lines;
	enum ndjson_event event;
	size_t number = 0, len;
	ssize_t n = 1;
	char *line;
	int rc = 0;

	if (fd < 0)
		return err_set_errno(err, errno, "%s", path);
	ndjson_init(&lines, ENTRY_BYTES_MAX);
	while (rc == 0 && n > 0) {
		n = read(fd, ndjson_room(&lines, 65536), 65536);
		if (n < 0)
			rc = err_set_errno(err, errno, "%s", path);
		ndjson_added(&lines, n > 0 ? (size_t)n : 0);
		while (rc == 0 && (event = n > 0 ? ndjson_next(&lines, &line, &len) : ndjson_finish(&lines, &line, &len)) !=
					  NDJSON_NEED_MORE) {
			number++;
			if (event == NDJSON_OVERLONG)
				rc = err_set(err, ERR_INVALID, "%s, entry %zu: too long", path, number);
			else if (read_entry(r, line, len, err) < 0)
				rc = err_wrap(err, "%s, entry %zu", path, number);
		}
	}
	ndjson_deinit(&lines);
	if (rc == 0 && r->count == 0)
		rc = err_set(err, ERR_INVALID, "%s: an empty recording", path);
	return rc;
}

/* --- playing --- */

static void print_differences(struct replay *r, const struct entry *e, const struct strv *lines)
{
	r->different++;
	printf("%sid %s %s%s\n", cli_paint(stdout, CLI_RED), e->id, e->method ? e->method : "", cli_paint(stdout, CLI_PLAIN));
	for (size_t i = 0; i < lines->count; i++) {
		fputs("  ", stdout);
		cli_print_text(stdout, lines->items[i]);
		putchar('\n');
	}
}

/* Waits for the answers that were recorded before the entry, and compares them. */
static int await_answers(struct replay *r, size_t before, struct err *err)
{
	for (; r->waited < before; r->waited++) {
		const struct entry *e = &r->entries[r->waited];
		cleanup_strv struct strv lines = {0};

		if (!e->id)
			continue;
		if (replay_worker_wait(&r->worker, e->id, e->occurrence + 1, r->silence_ms, err) < 0)
			return err_wrap(err, "id %s %s", e->id, e->method ? e->method : "");
		const json_t *now = replay_worker_answer(&r->worker, e->id, e->occurrence);

		replay_names_learn(&r->names, e->message, now);
		replay_compare(&r->names, e->message, now, &lines);
		r->compared++;
		if (lines.count)
			print_differences(r, e, &lines);
	}
	return 0;
}

static void send_entry(struct replay *r, const struct entry *e)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	if (e->message) {
		cleanup_json json_t *message = replay_names_apply(&r->names, e->message);

		json_write_value(&line, message);
	} else {
		buf_append_str(&line, e->raw);
	}
	replay_worker_send(&r->worker, line.data ? line.data : "", line.len);
}

/* A worker that is quiet as long as the recorded one was, and more, is no longer waited for. */
static int longest_pause(const struct replay *r)
{
	int64_t longest = 0;

	for (size_t i = 1; i < r->count; i++)
		if (r->entries[i].t_ms - r->entries[i - 1].t_ms > longest)
			longest = r->entries[i].t_ms - r->entries[i - 1].t_ms;
	return longest > INT32_MAX / 4 ? INT32_MAX : (int)(2 * longest) + REPLAY_SILENCE_MS;
}

static int play(struct replay *r, struct err *err)
{
	for (size_t i = 0; i < r->count; i++) {
		if (r->entries[i].out)
			continue;
		if (await_answers(r, i, err) < 0)
			return -1;
		send_entry(r, &r->entries[i]);
	}
	if (await_answers(r, r->count, err) < 0)
		return -1;
	int status = replay_worker_end(&r->worker, r->silence_ms);

	if (WIFSIGNALED(status))
		return err_set(err, ERR_REMOTE, "the worker was ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(err, ERR_REMOTE, "the worker's exit status is %d", WEXITSTATUS(status));
	return 0;
}

static int replay(struct replay *r, const char *path, const char *worker)
{
	cleanup_err struct err err = ERR_INIT;

	if (read_recording(r, path, &err) < 0) {
		cli_error("%s", err_text(&err));
		return CLI_USAGE;
	}
	if (r->masked)
		cli_warn("the recording has masked values; commands get \"***\" in their place");
	r->silence_ms = longest_pause(r);
	if (replay_worker_start(&r->worker, worker, &err) < 0) {
		cli_error("%s", err_text(&err));
		return CLI_USAGE;
	}
	int rc = play(r, &err);

	if (rc < 0)
		cli_error("%s", err_text(&err));
	printf("%zu answers compared, %zu differ\n", r->compared, r->different);
	return cli_finish_stdout(rc < 0 || r->different ? CLI_FAILED : CLI_OK);
}

static int replay_main(const struct cli_command *self, int argc, char **argv)
{
	static const struct option options[] = {
		{"worker", required_argument, NULL, 'w'}, {"help", no_argument, NULL, 'h'}, {0}};
	const char *worker = "/proc/self/exe";
	struct replay r = {0};
	int c;

	while ((c = cli_next_option(self, argc, argv, "+:h", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'h') {
			cli_print_help(self, stdout);
			return cli_finish_stdout(CLI_OK);
		}
		worker = optarg;
	}
	if (argc - optind != 1)
		return cli_usage_error(self, "replay needs one FILE");
	signal(SIGPIPE, SIG_IGN);
	replay_names_init(&r.names);
	int status = replay(&r, argv[optind], worker);

	replay_worker_deinit(&r.worker);
	replay_names_deinit(&r.names);
	for (size_t i = 0; i < r.count; i++)
		entry_deinit(&r.entries[i]);
	free(r.entries);
	return status;
}

const struct cli_command cli_replay = {
	.name = "replay",
	.summary = "play a recorded session again and compare the answers",
	.help = "Usage: " CLI_PROGRAM " replay [--worker PATH] FILE\n"
		"\n"
		"Starts a worker, sends it the requests of a session that was recorded with --record, each when the answers before it\n"
		"have come, and prints what is different in its answers. Made-up ids, times and temporary paths do not count.\n"
		"Exit status 0: all are equal; 1: not; 2: FILE is no recording or the worker can't be started.\n"
		"\n"
		"Options\n"
		"  --worker PATH  the worker to play it to; without it this program\n"
		"\n"
		"Example\n"
		"  " CLI_PROGRAM " replay session.ndjson\n",
	.main = replay_main,
};
