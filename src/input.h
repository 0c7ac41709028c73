/*
 * input: a command's standard input: text that the host sent, or (command line) a file descriptor that is read as the command
 * takes it. It is streamed where the provider can.
 */
#ifndef INPUT_H
#define INPUT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct input {
	const char *data; /* borrowed; goes before what the descriptor gives */
	size_t len;
	size_t taken;     /* of data: already given to the command */
	int fd;           /* borrowed; -1: data only */
	bool stays_open;  /* the command is not told the end of its input: data only */
};

#define INPUT_FROM_TEXT(text, n) ((struct input){.data = (text), .len = (n), .fd = -1})
#define INPUT_FROM_FD(number) ((struct input){.fd = (number)})

/*
 * Appends all of it, for services that take a command's input whole and as text: what is no UTF-8 becomes U+FFFD. Waits for the
 * descriptor's end. -1, ERR_INVALID above max bytes. ret: without a ceiling.
 */
int input_read_text(const struct input *input, size_t max, struct buf *ret, struct err *err);
/* The same with the bytes as they are. */
int input_read_bytes(const struct input *input, size_t max, struct buf *ret, struct err *err);

#endif
