/*
 * tree_pack: directories of this machine as tar archives and back, for native file sync (host contract, Native file sync). Neither holds
 * more than a piece in memory.
 */
#ifndef TREE_PACK_H
#define TREE_PACK_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- a directory as an archive --- */

struct tree_pack;

/*
 * exclude: glob patterns as GNU tar's --exclude has them: each matches a path below the directory or the end of one that follows a slash;
 * * matches slashes too. What is excluded takes what is below it along. Sockets, FIFOs and devices are left out, and what vanishes
 * meanwhile. follow: what links point to instead of them; links that lead nowhere stay links. -1: ERR_SYSTEM, it is no directory.
 */
int tree_pack_open(const char *path, char *const *exclude, bool follow, struct tree_pack **ret, struct err *err);
/* NULL is fine. */
void tree_pack_close(struct tree_pack *pack);
/* The archive's next bytes; *ret_n 0: its end. An http_read_fn. Of a file that shrinks while it is read the rest is zeros. */
int tree_pack_read(void *pack, void *room, size_t n, size_t *ret_n, struct err *err);
/* Files and links, and bytes of the archive, read so far. */
uint64_t tree_pack_files(const struct tree_pack *pack);
uint64_t tree_pack_bytes(const struct tree_pack *pack);

/* --- an archive as a directory --- */

/*
 * Nothing is written outside of the directory, whatever the archive says: first all of it is looked at, then it is extracted without
 * following any link. member_refused and link_refused: what the error says before the name, and before "<name> -> <target>", of one that
 * leads out of it: ERR_PROTOCOL. What is there already and not in the archive stays. Waits (other fibers run between pieces).
 */
struct tree_unpack {
	const char *member_refused;
	const char *link_refused;
	uint64_t files; /* what was extracted: files and links */
};

/* fd: the archive, a regular file. path: the directory, which is made if it is not there. */
int tree_unpack(struct tree_unpack *unpack, int fd, const char *path, struct err *err);

#endif
