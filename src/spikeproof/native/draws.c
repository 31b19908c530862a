/* SplitMix64 (Steele, Lea and Flood 2014): a hash of 64 bits, and the stream of words that each key begins. */
#include <stdint.h>

#define GOLDEN 0x9E3779B97F4A7C15u

static inline uint64_t mixed(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Words -> their hashes. */
int32_t spikeproof_mixed(int64_t count, const uint64_t *words, uint64_t *out)
{
    for (int64_t i = 0; i < count; i++) out[i] = mixed(words[i]);
    return 1;
}

/* Keys (B) -> start + slope * the first bits of each word of their streams, as a whole number: (B,each). */
int32_t spikeproof_draws(int64_t images, int64_t each, int32_t bits, int32_t threads, float start, float slope,
                         const uint64_t *keys, float *out)
{
    const int shift = 64 - bits;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t b = 0; b < images; b++)
        for (int64_t i = 0; i < each; i++)
            out[b * each + i] = start + slope * (float)(int32_t)(mixed(keys[b] + (uint64_t)(i + 1) * GOLDEN) >> shift);
    return 1;
}
