#include "init_request.h"

#include "init_client.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static size_t vector_size(char *const *vector, uint32_t *ret_count)
{
	size_t size = 0;

	for (*ret_count = 0; vector[*ret_count]; ++*ret_count)
		size += strlen(vector[*ret_count]) + 1;
	return size;
}

static char *put_string(char *to, const char *s)
{
	return s ? stpcpy(to, s) + 1 : to;
}

static void put_strings(char *to, const struct process_spec *spec)
{
	to = put_string(to, spec->file);
	to = put_string(to, spec->search_path);
	to = put_string(to, spec->cwd);
	for (char *const *s = spec->argv; *s; s++)
		to = put_string(to, *s);
	for (char *const *s = spec->envp; *s; s++)
		to = put_string(to, *s);
}

/* The strings in a file of memory, for those that do not fit in a packet. -1 with errno. */
static int put_strings_in_memfd(const struct process_spec *spec, size_t size)
{
	int fd = memfd_create("command", MFD_CLOEXEC);
	char *map = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int error = errno;

		close_fd(fd);
		errno = error;
		return -1;
	}
	put_strings(map, spec);
	munmap(map, size);
	return fd;
}

struct init_packet *init_request_create(const struct process_spec *spec, struct err *err)
{
	struct wire_spawn head = {.type = WIRE_SPAWN};

	head.size = strlen(spec->file) + 1;
	head.size += spec->search_path ? strlen(spec->search_path) + 1 : 0;
	head.size += spec->cwd ? strlen(spec->cwd) + 1 : 0;
	head.size += vector_size(spec->argv, &head.argc) + vector_size(spec->envp, &head.envc);
	head.flags = (spec->search_path ? WIRE_HAS_SEARCH_PATH : 0) | (spec->cwd ? WIRE_HAS_CWD : 0);
	if (head.size > COMMAND_STRINGS_MAX) {
		err_set_errno(err, E2BIG, "start %s", spec->file);
		return NULL;
	}
	if (head.size <= WIRE_INLINE_MAX) {
		struct init_packet *p = init_packet_create(&head, sizeof(head), head.size);

		put_strings((char *)p->bytes + p->len, spec);
		p->len += head.size;
		return p;
	}
	int fd = put_strings_in_memfd(spec, head.size);

	if (fd < 0) {
		err_set_errno(err, errno, "memory for the arguments");
		return NULL;
	}
	head.flags |= WIRE_IN_MEMFD;
	struct init_packet *p = init_packet_create(&head, sizeof(head), 0);

	p->fds[3] = fd;
	p->fd_count = 4;
	return p;
}

void init_request_take_stdio(struct init_packet *packet, const int stdio[3])
{
	memcpy(packet->fds, stdio, 3 * sizeof(int));
	packet->fd_count = packet->fd_count ? packet->fd_count : 3;
}
