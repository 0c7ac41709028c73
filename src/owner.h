/*
 * owner: the name of a worker, for what it makes elsewhere: its machine, boot, pid namespace, pid and start time. So whether it lives can be
 * told on its machine by anybody, without a file that it would have to keep; elsewhere it cannot be told, and nothing is assumed.
 */
#ifndef OWNER_H
#define OWNER_H

#include <stdbool.h>

/* This process: letters, digits and dots. Owned. */
char *owner_self(void);
/* True if the process surely has ended. Owners on other machines and in other namespaces: false. */
bool owner_is_dead(const char *owner);

#endif
