/*
 * One file with all trusted certificates. curl keeps a parsed store only as long as it comes from a file, so the system's certificates
 * and further ones are joined into a file in memory, once for each caFile, and curl gets its /proc path.
 */
#include "http_internal.h"

#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define STORE_MAX ((size_t)16 << 20)

struct joined {
	struct list link;
	char *ca_file; /* owned */
	struct stat st;
	int fd;
	char path[32];
};

const char *const *http_trust_system_candidates(void)
{
	static const char *paths[] = {
		NULL, /* SSL_CERT_FILE */
		"/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch */
		"/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
		"/etc/ssl/ca-bundle.pem",             /* openSUSE */
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* RHEL */
		"/etc/ssl/cert.pem",
		NULL, /* beside the executable */
		NULL,
	};
	static char beside[4096];
	static const char name[] = "ca-certificates.crt";
	ssize_t n = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof(name));
	const char *from_env = getenv("SSL_CERT_FILE");

	if (n > 0) {
		beside[n] = '\0';
		memcpy(strrchr(beside, '/') + 1, name, sizeof(name));
		paths[6] = beside;
	}
	/* An empty path is a file that is not there. */
	paths[0] = from_env ? from_env : "";
	return paths;
}

void http_trust_init(struct http_trust *trust, const char *const *candidates)
{
	*trust = (struct http_trust){.candidates = candidates};
	list_init(&trust->joined);
}

static void joined_destroy(struct joined *j)
{
	list_remove(&j->link);
	close_fd(j->fd);
	free(j->ca_file);
	free(j);
}

void http_trust_deinit(struct http_trust *trust)
{
	list_for_each(item, &trust->joined)
		joined_destroy(container_of(item, struct joined, link));
	free(trust->system);
}

/* The first candidate that can be read and is not empty; NULL: none. */
static const char *system_store(struct http_trust *trust)
{
	struct stat st;

	for (const char *const *path = trust->candidates; !trust->system && *path; path++)
		if (stat(*path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && access(*path, R_OK) == 0)
			trust->system = xstrdup(*path);
	return trust->system;
}

static int read_store(const char *path, struct buf *ret, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t before = ret->len;
	ssize_t n;

	if (fd < 0)
		return err_set(err, ERR_INVALID, "the CA certificates in %s cannot be read: %s", path, strerror(errno));
	do {
		char *room = buf_reserve(ret, 65536);

		if (!room)
			return err_set(err, ERR_INVALID, "the CA certificates in %s are more than %zu bytes", path, STORE_MAX);
		n = read(fd, room, 65536);
		if (n > 0)
			buf_added(ret, (size_t)n);
	} while (n > 0);
	if (n < 0)
		return err_set(err, ERR_INVALID, "the CA certificates in %s cannot be read: %s", path, strerror(errno));
	if (ret->len == before || !memmem(ret->data + before, ret->len - before, "-----BEGIN ", 11))
		return err_set(err, ERR_INVALID, "%s holds no certificate in PEM form", path);
	return buf_append_char(ret, '\n');
}

static int write_memory_file(const struct buf *store, struct err *err)
{
	int fd = memfd_create("ca-certificates", MFD_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		return err_set_errno(err, errno, "make a file in memory for the CA certificates");
	while (done < store->len) {
		ssize_t n = write(fd, store->data + done, store->len - done);

		if (n < 0) {
			int number = errno;

			close(fd);
			return err_set_errno(err, number, "write the CA certificates to a file in memory");
		}
		done += (size_t)n;
	}
	return fd;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static const struct joined *find_joined(struct http_trust *trust, const char *ca_file, const struct stat *st)
{
	list_for_each(item, &trust->joined) {
		struct joined *j = container_of(item, struct joined, link);

		/* One that has changed since stays open: transfers may use it. */
		if (strcmp(j->ca_file, ca_file) == 0 && same_file(&j->st, st))
			return j;
	}
	return NULL;
}

static const struct joined *join(struct http_trust *trust, const char *ca_file, const struct stat *st, struct err *err)
{
	cleanup_buf struct buf store = BUF_INIT(STORE_MAX);
	const char *system = system_store(trust);
	int fd;

	if ((system && read_store(system, &store, err) < 0) || read_store(ca_file, &store, err) < 0)
		return NULL;
	fd = write_memory_file(&store, err);
	if (fd < 0)
		return NULL;
	struct joined *j = xcalloc(1, sizeof(*j));

	j->ca_file = xstrdup(ca_file);
	j->st = *st;
	j->fd = fd;
	snprintf(j->path, sizeof(j->path), "/proc/self/fd/%d", fd);
	list_append(&trust->joined, &j->link);
	return j;
}

const char *http_trust_file(struct http_trust *trust, const char *ca_file, struct err *err)
{
	struct stat st;

	if (!ca_file) {
		const char *system = system_store(trust);

		if (!system)
			err_set(err, ERR_INVALID, "no CA certificates were found on this machine: install them (package ca-certificates), "
						  "or name a file of them in caFile");
		return system;
	}
	if (stat(ca_file, &st) < 0) {
		err_set(err, ERR_INVALID, "the CA certificates in %s cannot be read: %s", ca_file, strerror(errno));
		return NULL;
	}
	const struct joined *j = find_joined(trust, ca_file, &st);

	if (!j)
		j = join(trust, ca_file, &st, err);
	return j ? j->path : NULL;
}
