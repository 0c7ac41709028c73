#include "base/err.h"

#include "base/mem.h"

#include <string.h>

int err_vset(struct err *err, enum err_kind kind, const char *format, va_list ap)
{
	if (!err || err->kind != ERR_NONE)
		return -1;
	err->kind = kind;
	err->message = xvasprintf(format, ap);
	return -1;
}

int err_set(struct err *err, enum err_kind kind, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	err_vset(err, kind, format, ap);
	va_end(ap);
	return -1;
}

int err_set_errno(struct err *err, int number, const char *format, ...)
{
	va_list ap;

	if (!err || err->kind != ERR_NONE)
		return -1;
	va_start(ap, format);
	cleanup_free char *text = xvasprintf(format, ap);
	va_end(ap);
	err->kind = ERR_SYSTEM;
	err->sys_errno = number;
	err->message = xasprintf("%s: %s", text, strerror(number));
	return -1;
}

int err_wrap(struct err *err, const char *format, ...)
{
	va_list ap;

	if (!err || err->kind == ERR_NONE)
		return -1;
	va_start(ap, format);
	cleanup_free char *text = xvasprintf(format, ap);
	va_end(ap);
	cleanup_free char *inner = steal(&err->message);
	err->message = xasprintf("%s: %s", text, inner ? inner : "failed");
	return -1;
}

int err_move(struct err *to, struct err *from)
{
	if (to && to->kind == ERR_NONE)
		*to = *from;
	else
		err_clear(from);
	*from = ERR_INIT;
	return -1;
}

void err_clear(struct err *err)
{
	if (!err)
		return;
	free(err->message);
	json_decref(err->data);
	*err = ERR_INIT;
}

const char *err_text(const struct err *err)
{
	if (err->message)
		return err->message;
	return err->kind == ERR_NONE ? "no error" : "unknown error";
}
