#include "owner.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "fs.h"
#include "protocol/digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MACHINE_DIGITS 16
#define START_TIME_FIELD 22 /* proc(5), /proc/pid/stat */

static char *read_line(const char *path)
{
	cleanup_buf struct buf text = BUF_INIT(4096);

	if (fs_read_file(AT_FDCWD, path, &text, NULL) < 0 || text.len == 0)
		return NULL;
	return xstrndup(text.data, strcspn(text.data, "\n"));
}

/* machine-id(5) asks not to show it as it is. Owned. */
static char *machine(void)
{
	char digest[SHA256_HEX_SIZE], host[256] = "";
	cleanup_free char *id = read_line("/etc/machine-id");
	cleanup_free char *text = NULL;

	gethostname(host, sizeof host - 1);
	text = xasprintf("paperclip-sandbox-worker %s", str_nonempty(id) ? id : host);
	sha256_hex(text, strlen(text), digest);
	return xstrndup(digest, MACHINE_DIGITS);
}

/* "<start time>" of a process; NULL: there is none. Owned. */
static char *start_time(long pid)
{
	cleanup_free char *path = xasprintf("/proc/%ld/stat", pid);
	cleanup_free char *line = read_line(path);
	const char *at = line ? strrchr(line, ')') : NULL;

	for (int field = 2; at && field < START_TIME_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at ? xstrndup(at + 1, strcspn(at + 1, " ")) : NULL;
}

static char *namespace(void)
{
	char text[64] = "";
	ssize_t n = readlink("/proc/self/ns/pid", text, sizeof text - 1);

	return n > 0 ? xstrndup(text + strcspn(text, "0123456789"), strspn(text + strcspn(text, "0123456789"), "0123456789")) : xstrdup("0");
}

/* "machine.boot.namespace": where pids are told apart. Owned, like its parts. */
static char *here(char **ret_machine, char **ret_boot)
{
	cleanup_free char *boot = read_line("/proc/sys/kernel/random/boot_id");
	cleanup_free char *ns = namespace();

	*ret_machine = machine();
	*ret_boot = xasprintf("%s.%s", *ret_machine, boot ? boot : "0");
	return xasprintf("%s.%s", *ret_boot, ns);
}

char *owner_self(void)
{
	cleanup_free char *host = NULL;
	cleanup_free char *boot = NULL;
	cleanup_free char *place = here(&host, &boot);
	cleanup_free char *start = start_time(getpid());

	return xasprintf("%s.%ld.%s", place, (long)getpid(), start ? start : "0");
}

static bool begins_with_part(const char *text, const char *part)
{
	return str_starts_with(text, part) && text[strlen(part)] == '.';
}

bool owner_is_dead(const char *owner)
{
	cleanup_free char *host = NULL;
	cleanup_free char *boot = NULL;
	cleanup_free char *place = here(&host, &boot);
	char *end;

	if (begins_with_part(owner, host) && !begins_with_part(owner, boot))
		return true; /* it was before this machine's last boot */
	if (!begins_with_part(owner, place))
		return false;
	long pid = strtol(owner + strlen(place) + 1, &end, 10);
	cleanup_free char *start = start_time(pid);

	return *end == '.' && !str_eq(start, end + 1);
}
