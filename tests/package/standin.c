/*
 * standin: takes the worker's place in the tests of the launcher. It says how it was started, in one JSON line on stdout, and
 * then does as each line of stdin says:
 *
 *	exit N     exits with status N
 *	die N      dies of signal N
 *	catch N    from now on answers signal N with a line
 *	count      answers with the number of bytes from here to the end of stdin
 *
 * At the end of stdin it exits with status 0.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void print_strings(const char *key, char *const *strings)
{
	printf("\"%s\":[", key);
	for (size_t i = 0; strings[i] != NULL; i++) {
		printf("%s\"%s\"", i > 0 ? "," : "", strings[i]);
	}
	printf("],");
}

static void print_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const char *separator = "";

	printf("\"descriptors\":{");
	for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL; entry = readdir(dir)) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] == '.' || fd == dirfd(dir)) {
			continue;
		}
		printf("%s\"%d\":\"%s\"", separator, fd, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 ? "non-blocking" : "blocking");
		separator = ",";
	}
	printf("},");
	if (dir != NULL) {
		closedir(dir);
	}
}

static void print_blocked_signals(void)
{
	sigset_t blocked;
	const char *separator = "";

	printf("\"blocked\":[");
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int number = 1; number < NSIG; number++) {
		if (sigismember(&blocked, number) == 1) {
			printf("%s%d", separator, number);
			separator = ",";
		}
	}
	printf("],");
}

static void on_signal(int number)
{
	char line[] = "caught 00\n";

	line[7] = (char)('0' + number / 10);
	line[8] = (char)('0' + number % 10);
	if (write(STDOUT_FILENO, line, sizeof line - 1) < 0) {
		_exit(1);
	}
}

static void count_rest(void)
{
	size_t count = 0;

	while (getchar() != EOF) {
		count++;
	}
	printf("%zu\n", count);
}

static void obey(const char *line)
{
	int number = 0;

	if (sscanf(line, "exit %d", &number) == 1) {
		exit(number);
	} else if (sscanf(line, "die %d", &number) == 1) {
		signal(number, SIG_DFL);
		raise(number);
	} else if (sscanf(line, "catch %d", &number) == 1) {
		struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

		sigaction(number, &action, NULL);
		printf("ready\n");
	} else if (strcmp(line, "count\n") == 0) {
		count_rest();
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[256];

	printf("{\"pid\":%d,\"parent\":%d,", (int)getpid(), (int)getppid());
	print_strings("arguments", argv + 1);
	print_strings("environment", environ);
	print_descriptors();
	print_blocked_signals();
	printf("\"program\":\"%s\"}\n", argv[0]);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL) {
		obey(line);
	}
	return 0;
}
