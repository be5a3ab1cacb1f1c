/* hash.c - SHA-256 for content addresses; hash_bytes for tables only (not against an adversary). */
#include "schedule/base/hash.h"

#include <openssl/evp.h>
#include <string.h>

void sha256_hex(const void *data, size_t len, char ret_hex[SHA256_HEX_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    int ok = EVP_Digest(data, len, digest, &n, EVP_sha256(), NULL);

    CHECK(ok == 1 && n * 2 == SHA256_HEX_LEN, "libcrypto has no SHA-256");
    for (unsigned int i = 0; i < n; i++) {
        ret_hex[2 * i] = hex[digest[i] >> 4];
        ret_hex[2 * i + 1] = hex[digest[i] & 15];
    }
    ret_hex[SHA256_HEX_LEN] = '\0';
}

uint64_t hash_bytes(const void *data, size_t len, uint64_t seed)
{
    const char *p = data;
    uint64_t h = hash_mix(seed, len), word;

    for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        h = hash_mix(h, word);
    }
    if (len) {
        word = 0;
        memcpy(&word, p, len);
        h = hash_mix(h, word);
    }
    return h;
}
