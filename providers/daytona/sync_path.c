/* Paths by their text. */
#include "sync.h"

#include <string.h>

char *daytona_normalize_path(const char *path)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	if (*path != '/')
		return NULL;
	while (*path) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		if (len == 2 && memcmp(path, "..", 2) == 0) {
			const char *slash = out.len > 0 ? memrchr(out.data, '/', out.len) : NULL;
			buf_truncate(&out, slash ? (size_t)(slash - out.data) : 0);
		} else if (len > 0 && !(len == 1 && *path == '.')) {
			buf_append_char(&out, '/');
			buf_append(&out, path, len);
		}
		path += len;
	}
	if (out.len == 0)
		buf_append_char(&out, '/');
	return buf_steal(&out);
}

static bool lies_in(const char *directory, const char *path)
{
	size_t len = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

	return strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

int daytona_sync_check_path(const char *cwd, const char *path, const char *what, struct err *err)
{
	cleanup_free char *normal = daytona_normalize_path(path);

	if (!normal)
		return err_set(err, ERR_INVALID, "Daytona sync %s is not a confined absolute path: %s", what, path);
	if (!lies_in(cwd, normal))
		return err_set(err, ERR_INVALID, "Daytona sync %s escapes the workspace remote dir: %s", what, path);
	return 0;
}

char *daytona_parent_path(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash > path ? xstrndup(path, (size_t)(slash - path)) : xstrdup("/");
}

const char *daytona_base_name(const char *path)
{
	return strrchr(path, '/') + 1;
}
