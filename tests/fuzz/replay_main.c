/* Runs a fuzz target on files, or on all files of directories, as TAP: one test a file. */
#include "fuzz.h"

#include "base/buf.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int tests, failures;

static int read_file(const char *path, struct buf *out)
{
	FILE *file = fopen(path, "rb");
	size_t n;

	if (!file)
		return -1;
	do {
		n = fread(buf_reserve(out, 65536), 1, 65536, file);
		buf_added(out, n);
	} while (n);
	int rc = ferror(file) ? -1 : 0;

	fclose(file);
	return rc;
}

static void replay_file(const char *path, const char *name)
{
	cleanup_buf struct buf bytes = BUF_INIT(BUF_UNBOUNDED);
	/* Named first: a property that does not hold ends the program. */
	printf("# %s\n", name);
	if (read_file(path, &bytes) < 0) {
		printf("not ok %d - %s: %s\n", ++tests, name, strerror(errno));
		failures++;
		return;
	}
	cleanup_free uint8_t *exact = xmalloc(bytes.len);

	memcpy(exact, bytes.data, bytes.len);
	LLVMFuzzerTestOneInput(exact, bytes.len);
	printf("ok %d - %s\n", ++tests, name);
}

static int no_dots(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void replay_directory(const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, no_dots, alphasort);

	if (count <= 0) {
		printf("not ok %d - %s: %s\n", ++tests, path, count ? strerror(errno) : "is empty");
		failures++;
	}
	for (int i = 0; i < count; i++) {
		cleanup_free char *file = xasprintf("%s/%s", path, entries[i]->d_name);

		replay_file(file, entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("TAP version 13");
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			replay_directory(argv[i]);
		else
			replay_file(argv[i], argv[i]);
	}
	printf("1..%d\n", tests);
	return failures != 0;
}
