#include "fake.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* Where Node's words are not the C library's in lower case. */
static const char *node_words(int number)
{
	switch (number) {
	case EEXIST:
		return "file already exists";
	case ENAMETOOLONG:
		return "name too long";
	case ELOOP:
		return "too many symbolic links encountered";
	case EIO:
		return "i/o error";
	case EMFILE:
		return "too many open files";
	case ENFILE:
		return "file table overflow";
	default:
		return NULL;
	}
}

int fake_fs_error(struct err *err, int number, const char *call, const char *path)
{
	const char *name = strerrorname_np(number);
	const char *words = node_words(number);
	cleanup_buf struct buf own_words = BUF_INIT(BUF_UNBOUNDED);

	if (!words) {
		buf_append_str(&own_words, strerror(number));
		for (size_t i = 0; i < own_words.len; i++)
			own_words.data[i] = (char)tolower((unsigned char)own_words.data[i]);
		words = own_words.data;
	}
	err_set(err, ERR_SYSTEM, "%s: %s, %s '%s'", name ? name : "EUNKNOWN", words, call, path);
	if (err)
		err->sys_errno = number;
	return -1;
}

int fake_null_byte_error(struct err *err, const char *what, const char *text, size_t len)
{
	cleanup_buf struct buf shown = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&shown, "");
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\0')
			buf_append_str(&shown, "\\x00");
		else
			buf_append_char(&shown, text[i]);
	}
	return err_set(err, ERR_INVALID, "The %s must be a string without null bytes. Received '%s'", what, shown.data);
}
