/* mask: secrets of a message replaced by "***", for recordings. */
#ifndef PROTOCOL_MASK_H
#define PROTOCOL_MASK_H

#include <jansson.h>

/*
 * Replaces, at any level of the value: strings under one of the secret keys (array of strings), and all strings of members called
 * "env", whose values are often credentials.
 */
void mask_secrets(json_t *value, const json_t *secret_keys);

#endif
