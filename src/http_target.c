#include "http_internal.h"

#include "base/mem.h"

#include <string.h>

int http_target_init(struct http_target *target, const char *text, bool websocket, struct err *err)
{
	*target = (struct http_target){0};
	if (url_parse(text, &target->url, err) < 0)
		return -1;
	struct url *u = &target->url;
	/* curl speaks HTTP; a WebSocket begins so. */
	bool secure = strcmp(u->scheme, websocket ? "wss" : "https") == 0 || strcmp(u->scheme, "https") == 0;
	bool plain = strcmp(u->scheme, websocket ? "ws" : "http") == 0 || strcmp(u->scheme, "http") == 0;

	target->where = url_host_port(u);
	if (!secure && !plain)
		return err_set(err, ERR_INVALID, "requests go to https:// addresses only, not to %s://", u->scheme);
	if (*u->username || *u->password)
		return err_set(err, ERR_INVALID, "the address of %s must not hold a user name or password", target->where);
	if (plain && !url_is_loopback(u))
		return err_set(err, ERR_INVALID, "%s is asked for without encryption: http:// is for loopback addresses only; use https://",
			       target->where);
	if (websocket) {
		free(u->scheme);
		u->scheme = xstrdup(secure ? "https" : "http");
	}
	target->text = url_target(u);
	return 0;
}

void http_target_use_options(struct http_target *target, const struct http_options *options)
{
	if (!options || !options->socket_path)
		return;
	free(target->where);
	target->where = xstrdup(options->socket_path);
}

void http_target_deinit(struct http_target *target)
{
	url_deinit(&target->url);
	str_wipe_free(target->text);
	free(target->where);
	*target = (struct http_target){0};
}
