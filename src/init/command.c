#include "command.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The string at *strings, which moves behind it; NULL if it has no end. */
static char *take_string(char **strings, const char *end)
{
	char *s = *strings;
	char *nul = memchr(s, '\0', (size_t)(end - s));

	if (!nul)
		return NULL;
	*strings = nul + 1;
	return s;
}

static char **take_vector(char **vector, size_t count, char **strings, const char *end)
{
	for (size_t i = 0; i < count; i++) {
		vector[i] = take_string(strings, end);
		if (!vector[i])
			return NULL;
	}
	vector[count] = NULL;
	return vector + count + 1;
}

int command_decode(struct command *command, const struct wire_spawn *head, char *strings)
{
	const char *end = strings + head->size;
	size_t slots = (size_t)head->argc + head->envc + 2;

	if (slots > head->size + 2) /* each string has at least its NUL */
		return EPROTO;
	command->file = take_string(&strings, end);
	command->search_path = head->flags & WIRE_HAS_SEARCH_PATH && command->file ? take_string(&strings, end) : NULL;
	command->cwd = head->flags & WIRE_HAS_CWD && command->file ? take_string(&strings, end) : NULL;
	if (!command->file || (head->flags & WIRE_HAS_SEARCH_PATH && !command->search_path) ||
	    (head->flags & WIRE_HAS_CWD && !command->cwd))
		return EPROTO;
	command->argv = malloc(slots * sizeof(*command->argv));
	if (!command->argv)
		return ENOMEM;
	command->envp = take_vector(command->argv, head->argc, &strings, end);
	if (!command->envp || !take_vector(command->envp, head->envc, &strings, end))
		return EPROTO;
	return 0;
}

/*
 * Tries the file in each directory of the path, as execvp does, with two differences: an unset or empty path finds nothing, and a
 * file that is no program (ENOEXEC) is not given to a shell. An empty entry is the current directory.
 */
static int exec_in_path(const struct command *command)
{
	char path[PATH_MAX];
	size_t file_len = strlen(command->file);
	const char *entry = command->search_path;
	int denied = 0;

	if (file_len == 0 || !entry || !*entry)
		return ENOENT;
	if (file_len > NAME_MAX)
		return ENAMETOOLONG;
	for (;;) {
		size_t len = (size_t)(strchrnul(entry, ':') - entry);

		if (len + 1 + file_len < sizeof(path)) {
			memcpy(path, entry, len);
			path[len] = '/';
			memcpy(path + len + (len > 0), command->file, file_len + 1);
			execve(path, command->argv, command->envp);
			if (errno == EACCES)
				denied = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT)
				return errno;
		}
		if (!entry[len])
			return denied ? denied : ENOENT;
		entry += len + 1;
	}
}

static int exec_file(const struct command *command)
{
	if (!strchr(command->file, '/'))
		return exec_in_path(command);
	execve(command->file, command->argv, command->envp);
	return errno;
}

void command_become(const struct command *command, const int stdio[3], volatile struct command_failure *failure)
{
	sigset_t none;

	/* A session of its own has no controlling terminal, so nothing can be typed into one (TIOCSTI). */
	setsid();
	/* The supervisor cannot be killed behind our back without the command going with it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(stdio[fd], fd) < 0) {
			failure->step = WIRE_STEP_FORK;
			failure->error = errno;
			return;
		}
	}
	if (command->cwd && chdir(command->cwd) < 0) {
		failure->step = WIRE_STEP_CHDIR;
		failure->error = errno;
		return;
	}
	/* The dispositions are the defaults since main; blocked is all but nothing. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int error = exec_file(command);

	failure->step = WIRE_STEP_EXEC;
	failure->error = error;
}
