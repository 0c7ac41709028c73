/*
 * input: a command's standard input: text that the host sent, or (command line) a file descriptor that is read as the command
 * takes it. It is streamed, never staged.
 */
#ifndef INPUT_H
#define INPUT_H

#include <stdbool.h>
#include <stddef.h>

struct input {
	const char *data; /* borrowed; used if fd < 0 */
	size_t len;
	size_t taken;     /* of data: already given to the command */
	int fd;           /* borrowed; -1: data */
};

#define INPUT_FROM_TEXT(text, n) ((struct input){.data = (text), .len = (n), .fd = -1})
#define INPUT_FROM_FD(number) ((struct input){.fd = (number)})

#endif
