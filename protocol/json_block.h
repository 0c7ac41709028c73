/* json_block: sixteen bytes at a time, for the loops that run over whole strings. Plain C with the vector types of gcc and clang. */
#ifndef PROTOCOL_JSON_BLOCK_H
#define PROTOCOL_JSON_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t json_block __attribute__((vector_size(16)));

static inline json_block json_block_load(const char *text)
{
	json_block block;

	memcpy(&block, text, sizeof(block));
	return block;
}

static inline bool json_block_any(json_block mask)
{
	uint64_t half[2];

	memcpy(half, &mask, sizeof(half));
	return (half[0] | half[1]) != 0;
}

/* Bytes that end a plain run inside a string: the quote, the backslash and controls. */
static inline json_block json_block_special(json_block b)
{
	return (json_block)((b < 0x20) | (b == '"') | (b == '\\'));
}

#endif
