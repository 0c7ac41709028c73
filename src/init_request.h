/* init_request: a command as the SPAWN packet of init/wire.h. */
#ifndef INIT_REQUEST_H
#define INIT_REQUEST_H

#include "init_link.h"
#include "process.h"

/* NULL: E2BIG for strings that no kernel takes, or memory for long ones is not to be had. */
struct init_packet *init_request_create(const struct process_spec *spec, struct err *err);
/* Adds the command's stdin, stdout and stderr, which the packet owns from then on. */
void init_request_take_stdio(struct init_packet *packet, const int stdio[3]);

#endif
