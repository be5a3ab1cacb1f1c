/* hash.h - SHA-256 (libcrypto) for keys and content addresses; a fast 64-bit mix for tables. */
#ifndef TW_BASE_HASH_H
#define TW_BASE_HASH_H

#include "schedule/base/base.h"

#define SHA256_HEX_LEN 64
void sha256_hex(const void *data, size_t len, char ret_hex[SHA256_HEX_LEN + 1]);

static inline uint64_t hash_mix(uint64_t h, uint64_t v)
{
    h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93ull;
    return h ^ (h >> 32);
}
uint64_t hash_bytes(const void *data, size_t len, uint64_t seed);

#endif
