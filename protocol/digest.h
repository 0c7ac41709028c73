/* digest: SHA-1 (the WebSocket handshake asks for it) and SHA-256 (FIPS 180-4). For fingerprints, not for speed. */
#ifndef PROTOCOL_DIGEST_H
#define PROTOCOL_DIGEST_H

#include <stddef.h>

#define SHA1_BYTES 20
#define SHA256_BYTES 32
#define SHA256_HEX_SIZE (2 * SHA256_BYTES + 1)

void sha1(const void *bytes, size_t n, unsigned char out[SHA1_BYTES]);
void sha256(const void *bytes, size_t n, unsigned char out[SHA256_BYTES]);
/* In lower-case hexadecimal digits, with a NUL. */
void sha256_hex(const void *bytes, size_t n, char out[SHA256_HEX_SIZE]);

#endif
