/* A kernel (K,C,height,width) as the matrix of a convolution whose results see the whole of a map of down x across
   pixels: (results, K, down x across x C), where each result sees the map through the taps from (top,left) on. */
#include <stdint.h>
#include <string.h>

struct kernel {
    int64_t count, channels, height, width, down, across, results;
};

/* The taps of kernel number k that result number r sees the map with, one row of the matrix, and back: added to them. */
#define EACH(DO)                                                                                                       \
    for (int64_t i = 0; i < g->down; i++)                                                                              \
        for (int64_t j = 0; j < g->across; j++) {                                                                      \
            const int64_t tap = (first[2 * r] + i) * g->width + first[2 * r + 1] + j, pixel = i * g->across + j;       \
            for (int64_t c = 0; c < g->channels; c++) DO;                                                              \
        }

/* first: (top,left) of each result. */
int32_t spikeproof_taps(const struct kernel *g, int32_t threads, int32_t back, const int64_t *first, float *kernel,
                        float *matrix)
{
    const int64_t taps = g->height * g->width, size = g->channels * taps, wide = g->down * g->across * g->channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < g->count; k++) {
        float *restrict one = kernel + k * size;
        if (back) memset(one, 0, sizeof(float) * (size_t)size);
        for (int64_t r = 0; r < g->results; r++) {
            float *restrict row = matrix + (r * g->count + k) * wide;
            if (back)
                EACH(one[c * taps + tap] += row[pixel * g->channels + c])
            else
                EACH(row[pixel * g->channels + c] = one[c * taps + tap])
        }
    }
    return 1;
}
