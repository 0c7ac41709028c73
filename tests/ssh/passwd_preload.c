/*
 * Preloaded into sshd by machine.py: users that this machine does not have, from the file that PSW_PASSWD names, in passwd(5)'s format. So
 * a test can log in to any login shell, and an ordinary user can run the suite. Names that the file does not have are the system's.
 */
#include <dlfcn.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct passwd entry;
static char *line;
static size_t room;

/* The entry of that name; NULL: there is none. */
static struct passwd *find(const char *name)
{
	const char *path = getenv("PSW_PASSWD");
	FILE *file = path ? fopen(path, "re") : NULL;
	char *fields[7] = {NULL};

	if (!file)
		return NULL;
	while (getline(&line, &room, file) > 0) {
		char *rest = line;
		size_t count = 0;

		line[strcspn(line, "\n")] = '\0';
		while (count < 7 && (fields[count] = strsep(&rest, ":")))
			count++;
		if (count == 7 && strcmp(fields[0], name) == 0)
			break;
		fields[0] = NULL;
	}
	fclose(file);
	if (!fields[0])
		return NULL;
	entry = (struct passwd){
		.pw_name = fields[0],
		.pw_passwd = fields[1],
		.pw_uid = (uid_t)strtoul(fields[2], NULL, 10),
		.pw_gid = (gid_t)strtoul(fields[3], NULL, 10),
		.pw_gecos = fields[4],
		.pw_dir = fields[5],
		.pw_shell = fields[6],
	};
	return &entry;
}

struct passwd *getpwnam(const char *name)
{
	struct passwd *(*next)(const char *) = NULL;
	struct passwd *found = find(name);

	if (found)
		return found;
	*(void **)&next = dlsym(RTLD_NEXT, "getpwnam");
	return next(name);
}
