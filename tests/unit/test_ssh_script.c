/*
 * The texts that the ssh driver has shells run, in each shell that this machine has: as the login shell that is given the constant text, and
 * as the /bin/sh that runs what is variable. What sshd does, this file does: `<login shell> -c <text>`, in a session of its own.
 */
#include "providers/ssh/ssh.h"
#include "random.h"
#include "tap.h"

#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NONCE "0123456789abcdef0123456789abcdef"

/* Where one command runs: a home with a lease in it, and links by which shells are found under the names that they are to have. */
struct fixture {
	char root[64];
	char *home;
	struct ssh_place place;
};

struct shell {
	const char *name; /* of its program */
	const char *as;   /* it goes by the name that it is called by */
	bool is_bin_sh;   /* somewhere it is; else it is a login shell alone */
};

static const struct shell shells[] = {
	{"sh", "sh", true},      {"bash", "sh", true},     {"dash", "sh", true},    {"busybox", "sh", true},
	{"bash", "bash", false}, {"busybox", "ash", false}, {"zsh", "zsh", false},   {"ksh", "ksh", false},
	{"mksh", "mksh", false}, {"fish", "fish", false},   {"tcsh", "tcsh", false},
};

#define SHELL_COUNT (sizeof shells / sizeof shells[0])

static void write_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
}

static void fixture_init(struct fixture *f)
{
	memcpy(f->root, "/tmp/psw ssh XXXXXX", sizeof "/tmp/psw ssh XXXXXX");
	if (!mkdtemp(f->root))
		abort();
	f->home = xasprintf("%s/it's $HOME", f->root);
	f->place = (struct ssh_place){
		.dir = xasprintf("%s/lease", f->home),
		.marker = xasprintf("%s/.lease", f->home),
		.name = xstrdup("lease"),
	};
	if (mkdir(f->home, 0755) < 0 || mkdir(f->place.dir, 0755) < 0)
		abort();
	write_file(f->home, ".lease", "");
}

static void fixture_deinit(struct fixture *f)
{
	(void)fs_remove_tree_now(f->root, NULL);
	ssh_place_deinit(&f->place);
	free(f->home);
}

/* The path of the shell under the name; NULL: this machine has none. Owned. */
static char *shell_path(const struct fixture *f, size_t number)
{
	static const char *const places[] = {"/bin", "/usr/bin", "/usr/local/bin"};
	cleanup_free char *dir = xasprintf("%s/%zu", f->root, number);

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		cleanup_free char *target = xasprintf("%s/%s", places[i], shells[number].name);
		char *path = xasprintf("%s/%s", dir, shells[number].as);

		if (access(target, X_OK) == 0 && (mkdir(dir, 0755) == 0 || errno == EEXIST) &&
		    (symlink(target, path) == 0 || errno == EEXIST))
			return path;
		free(path);
	}
	return NULL;
}

/* --- one run --- */

struct result {
	struct ssh_marks marks;
	struct buf out, err;
};

static int take(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct result *r = arg;

	return buf_append(stream == OUTPUT_STDOUT ? &r->out : &r->err, bytes, n);
}

static void result_deinit(struct result *r)
{
	ssh_marks_deinit(&r->marks);
	buf_deinit(&r->out);
	buf_deinit(&r->err);
}

/* The constant text, with another shell for /bin/sh. Owned. */
static char *loader_for(const char *sh)
{
	cleanup_free char *text = ssh_script_loader(NONCE);
	char *at = strstr(text, "/bin/sh");

	*at = '\0';
	return xasprintf("%s\"%s\"%s", text, sh, at + strlen("/bin/sh"));
}

/* In the child: as sshd starts a command. */
static void run_shell(const struct fixture *f, const char *login, const char *loader, int in)
{
	cleanup_free char *home = xasprintf("HOME=%s", f->home);
	char *const env[] = {home, (char[]){"PATH=/usr/local/bin:/usr/bin:/bin"}, NULL};
	const char *const argv[] = {strrchr(login, '/') + 1, "-c", loader, NULL};

	setsid();
	dup2(in, 0);
	if (chdir(f->root) == 0 && dup2(open("out", O_WRONLY | O_CREAT | O_TRUNC, 0644), 1) == 1 &&
	    dup2(open("err", O_WRONLY | O_CREAT | O_TRUNC, 0644), 2) == 2)
		execve(login, (char *const *)(uintptr_t)argv, env);
	_exit(99);
}

static void feed_file(const struct fixture *f, const char *name, enum output_stream stream, struct random *random, struct result *ret)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *path = xasprintf("%s/%s", f->root, name);

	if (fs_read_file(AT_FDCWD, path, &text, NULL) < 0)
		abort();
	for (size_t at = 0, n; at < text.len; at += n) {
		n = 1 + random_below(random, 40);
		n = n < text.len - at ? n : text.len - at;
		ssh_marks_feed(&ret->marks, stream, text.data + at, n, /* may_wait= */ true, NULL);
	}
}

/* script: without its beginning and end. The session's input stays open until the shell has ended. */
static void run_script(const struct fixture *f, const char *login, const char *sh, const struct buf *script, const char *input,
		       size_t n, struct random *random, struct result *ret)
{
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *loader = loader_for(sh);
	int pipes[2], status;

	ssh_script_begin(&whole, NONCE);
	buf_append(&whole, script->data, script->len);
	ssh_script_end(&whole, NONCE);
	buf_append(&whole, input, n);
	*ret = (struct result){.out = BUF_INIT(BUF_UNBOUNDED), .err = BUF_INIT(BUF_UNBOUNDED)};
	ssh_marks_init(&ret->marks, NONCE, take, ret);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		abort();
	pid_t pid = fork();
	if (pid == 0)
		run_shell(f, login, loader, pipes[0]);
	close(pipes[0]);
	for (size_t at = 0; at < whole.len;) {
		ssize_t wrote = write(pipes[1], whole.data + at, whole.len - at);
		if (wrote < 0)
			break;
		at += (size_t)wrote;
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	close(pipes[1]);
	feed_file(f, "out", OUTPUT_STDOUT, random, ret);
	feed_file(f, "err", OUTPUT_STDERR, random, ret);
	ssh_marks_finish(&ret->marks);
}

static void run_command(const struct fixture *f, const char *login, const char *sh, const struct execute_params *params,
			const char *input, size_t n, struct random *random, struct result *ret)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	struct ssh_command_spec spec = {
		.params = params,
		.place = &f->place,
		.cwd = f->place.dir,
		.login_shell = true,
		.has_length = true,
		.input_bytes = n,
	};

	ssh_script_command(&script, NONCE, &spec);
	run_script(f, login, sh, &script, input, n, random, ret);
}

/* --- made-up words --- */

/* Any bytes but NUL, rather those that mean something to shells. Owned. */
static char *random_word(struct random *r)
{
	static const char special[] = "'\"\\$`!*?[]{}()<>|&;#~=%^- \t\n\r\001\177\033abcEOS";
	size_t len = random_below(r, 60);
	char *word = xmalloc(len + 1);

	for (size_t i = 0; i < len; i++)
		word[i] = random_below(r, 3) ? special[random_below(r, sizeof special - 1)] : (char)(1 + random_below(r, 255));
	word[len] = '\0';
	return word;
}

static json_t *random_text(struct random *r)
{
	cleanup_free char *word = random_word(r);

	for (char *at = word; *at; at++)
		*at = (char)(*at & 0x7f ? *at & 0x7f : 'x');
	return json_string(word);
}

/* The environment's entries that the test has set, as env -0 writes them. */
static void check_env(const struct fixture *f, const char *login, const char *sh, struct random *random)
{
	static const char *const names[] = {"A", "_b", "PATH_X", "IFS", "UID", "n",   "s",      "l",    "m",   "x",
					    "w", "_",  "PPID",   "PWD", "OPTIND", "ENV", "RANDOM", "HOME", "LC_ALL"};
	cleanup_strv struct strv args = {0};
	json_t *env = json_object();
	const char *key;
	json_t *value;
	struct result got;

	strv_add(&args, "-0");
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		json_object_set_new(env, names[i], random_text(random));
	struct execute_params params = {.command = "/usr/bin/env", .args = strv_list(&args), .env = env};

	run_command(f, login, sh, &params, "", 0, random, &got);
	CHECK_INT(got.marks.code, 0);
	json_object_foreach(env, key, value) {
		cleanup_free char *entry = xasprintf("%s=%s", key, json_string_value(value));
		if (!got.out.data || !memmem(got.out.data, got.out.len, entry, strlen(entry) + 1))
			tap_fail(__FILE__, __LINE__, "%s is not as it was given, by %s and %s", key, login, sh);
	}
	result_deinit(&got);
	json_decref(env);
}

#define WORDS 30

/* Arguments go to stdout, then the input. */
static void check_words(const struct fixture *f, const char *login, const char *sh, struct random *random)
{
	cleanup_strv struct strv args = {0};
	cleanup_buf struct buf want = BUF_INIT(BUF_UNBOUNDED);
	char input[500];
	struct result got;

	strv_add_all(&args, "-c", "printf '%s\\0' \"$@\"; cat; echo err >&2; exit 7", "sh", NULL);
	for (int i = 0; i < WORDS; i++) {
		strv_take(&args, random_word(random));
		buf_append(&want, args.items[args.count - 1], strlen(args.items[args.count - 1]) + 1);
	}
	for (size_t i = 0; i < sizeof input; i++)
		input[i] = (char)random_next(random);
	buf_append(&want, input, sizeof input);
	struct execute_params params = {.command = "/bin/sh", .args = strv_list(&args)};

	run_command(f, login, sh, &params, input, sizeof input, random, &got);
	CHECK(ssh_marks_have_ended(&got.marks));
	CHECK_INT(got.marks.code, 7);
	CHECK_MEM(got.out.data, got.out.len, want.data, want.len);
	CHECK_MEM(got.err.data, got.err.len, "err\n", 4);
	result_deinit(&got);
}

static void check_round(const struct fixture *f, const char *login, const char *sh, struct random *random)
{
	check_words(f, login, sh, random);
	check_env(f, login, sh, random);
}

/* --- tests --- */

TEST(any_words_environment_and_input_arrive_in_every_shell_as_bin_sh)
{
	struct fixture f;
	struct random random = {11};

	fixture_init(&f);
	for (size_t i = 0; i < SHELL_COUNT; i++) {
		cleanup_free char *path = shells[i].is_bin_sh ? shell_path(&f, i) : NULL;
		for (int round = 0; path && round < 4; round++)
			check_round(&f, "/bin/sh", path, &random);
	}
	fixture_deinit(&f);
}

TEST(any_words_environment_and_input_pass_through_every_login_shell)
{
	struct fixture f;
	struct random random = {12};

	fixture_init(&f);
	for (size_t i = 0; i < SHELL_COUNT; i++) {
		cleanup_free char *path = shell_path(&f, i);
		if (path)
			check_round(&f, path, "/bin/sh", &random);
	}
	fixture_deinit(&f);
}

static void check_end(const struct fixture *f, const char *sh, const char *script, int code, const char *word, struct random *random)
{
	cleanup_strv struct strv args = {0};
	struct result got;

	strv_add_all(&args, "-c", script, NULL);
	struct execute_params params = {.command = "/bin/sh", .args = strv_list(&args)};
	run_command(f, "/bin/sh", sh, &params, "", 0, random, &got);
	int number = got.marks.code > 384 ? got.marks.code - 256 : got.marks.code > 256 ? got.marks.code - 128 : got.marks.code;
	CHECK_INT(number, code);
	/* Numbers above 255 are a signal's without a word. */
	if (got.marks.code < 256)
		CHECK_STR(got.marks.word, word);
	CHECK_MEM(got.out.data ? got.out.data : "", got.out.len, "", 0);
	CHECK_MEM(got.err.data ? got.err.data : "", got.err.len, "", 0);
	result_deinit(&got);
}

TEST(exit_codes_and_signals_are_told_apart_in_every_shell)
{
	struct fixture f;
	struct random random = {13};

	fixture_init(&f);
	for (size_t i = 0; i < SHELL_COUNT; i++) {
		cleanup_free char *path = shells[i].is_bin_sh ? shell_path(&f, i) : NULL;
		if (!path)
			continue;
		check_end(&f, path, "exit 0", 0, "", &random);
		check_end(&f, path, "exit 255", 255, "", &random);
		check_end(&f, path, "exit 137", 137, "", &random);
		check_end(&f, path, "kill -KILL $$", 137, "-signal", &random);
		check_end(&f, path, "kill -SEGV $$", 139, "-signal", &random);
		/* The shells' shell is the command's business. */
		check_end(&f, path, "sh -c 'kill -TERM $$' 2>/dev/null; exit 5", 5, "", &random);
	}
	fixture_deinit(&f);
}

TEST(a_profile_that_ends_the_shell_keeps_no_command_from_running)
{
	static const char *const profiles[] = {"exit 0\n", "exit 3\n", "exec true\n", "( (\n", "set -e; false\n",
					       "set -u; echo $no_such\n", "cat; echo noise; echo noise >&2\n", "cd /; exec >&-; exec 2>&-\n"};
	struct fixture f;
	struct random random = {14};

	fixture_init(&f);
	for (size_t i = 0; i < SHELL_COUNT; i++) {
		cleanup_free char *path = shells[i].is_bin_sh ? shell_path(&f, i) : NULL;
		for (size_t p = 0; path && p < sizeof profiles / sizeof profiles[0]; p++) {
			write_file(f.home, ".profile", profiles[p]);
			check_round(&f, "/bin/sh", path, &random);
		}
	}
	fixture_deinit(&f);
}

TEST(a_script_that_is_cut_short_is_not_begun)
{
	struct fixture f;
	struct random random = {15};

	fixture_init(&f);
	for (size_t i = 0; i < SHELL_COUNT; i++) {
		cleanup_free char *path = shells[i].is_bin_sh ? shell_path(&f, i) : NULL;
		cleanup_free char *loader = path ? loader_for(path) : NULL;
		struct result got = {.out = BUF_INIT(BUF_UNBOUNDED), .err = BUF_INIT(BUF_UNBOUNDED)};
		static const char part[] = "echo begun\n0123456789abcdef";
		int pipes[2], status;

		if (!path || pipe2(pipes, O_CLOEXEC) < 0)
			continue;
		pid_t pid = fork();
		if (pid == 0)
			run_shell(&f, "/bin/sh", loader, pipes[0]);
		close(pipes[0]);
		CHECK(write(pipes[1], part, sizeof part - 1) == sizeof part - 1);
		close(pipes[1]);
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 255);
		ssh_marks_init(&got.marks, NONCE, take, &got);
		feed_file(&f, "out", OUTPUT_STDOUT, &random, &got);
		CHECK(!ssh_marks_have_begun(&got.marks) && got.marks.streams[0].noise.len == 0);
		result_deinit(&got);
	}
	fixture_deinit(&f);
}

TEST(a_directory_that_is_not_the_leases_own_runs_nothing)
{
	cleanup_strv struct strv args = {0};
	struct execute_params params = {.command = "true", .args = strv_list(&args)};
	struct random random = {16};
	struct fixture f;
	struct result got;

	fixture_init(&f);
	unlink(f.place.marker);
	run_command(&f, "/bin/sh", "/bin/sh", &params, "", 0, &random, &got);
	CHECK_STR(got.marks.word, "lease");
	result_deinit(&got);
	write_file(f.home, ".lease", "");
	CHECK(rmdir(f.place.dir) == 0 && symlink("/", f.place.dir) == 0);
	run_command(&f, "/bin/sh", "/bin/sh", &params, "", 0, &random, &got);
	CHECK_STR(got.marks.word, "lease");
	result_deinit(&got);
	fixture_deinit(&f);
}

TEST_MAIN()
