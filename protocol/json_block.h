/*
 * json_block: sixteen bytes at a time, for the loops that run over whole strings. Plain C with the vector types of gcc and clang,
 * which become SSE2 or NEON, or ordinary words where there is neither.
 */
#ifndef PROTOCOL_JSON_BLOCK_H
#define PROTOCOL_JSON_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define JSON_BLOCK 16

/* As a mask: 0xFF in the bytes that are meant, else 0. */
typedef uint8_t json_block __attribute__((vector_size(JSON_BLOCK)));

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

/* The index of the first byte that is meant; JSON_BLOCK if there is none. */
static inline size_t json_block_first(json_block mask)
{
	uint64_t half[2];

	memcpy(half, &mask, sizeof(half));
	if (!(half[0] | half[1]))
		return JSON_BLOCK;
	uint64_t bits = half[0] ? half[0] : half[1];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	size_t index = (size_t)__builtin_ctzll(bits) / 8;
#else
	size_t index = (size_t)__builtin_clzll(bits) / 8;
#endif
	return half[0] ? index : index + 8;
}

/* Bytes that end a plain run inside a string: the quote, the backslash and controls. */
static inline json_block json_block_special(json_block b)
{
	return (json_block)((b < 0x20) | (b == '"') | (b == '\\'));
}

#endif
