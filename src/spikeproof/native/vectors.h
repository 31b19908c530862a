/* Registers full of single floats, and the product of matrices that they are for. */
#ifndef SPIKEPROOF_VECTORS
#define SPIKEPROOF_VECTORS

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <immintrin.h>
#endif

/* Floats of a register; and the rows at once of a product, whose ROWS x 2 sums leave room for what is multiplied: any
   number of them, or one that WIDE is a multiple of. */
#if defined(__AVX512F__)
#define LANES 16
#define ROWS 12
#define TALL 8
#elif defined(__AVX2__)
#define LANES 8
#define ROWS 6
#define TALL 4
#else
#define LANES 4
#define ROWS 6
#define TALL 4
#endif
#define WIDE (2 * LANES)

typedef float numbers __attribute__((vector_size(4 * LANES), aligned(4)));

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ALWAYS numbers read(const float *from) { return *(const numbers *)from; }
ALWAYS void write(float *to, numbers value) { *(numbers *)to = value; }

/* Whether lines of `line` floats, `floats` in all, should be written past the caches: they are more than a core keeps
   for who reads them next, and a cache would first read what is written over. On x86 alone, and to whole registers. */
ALWAYS int past_caches(int64_t floats, int64_t line, const float *to)
{
#ifdef __SSE__
    return floats >= 1 << 17 && line % LANES == 0 && (uintptr_t)to % (4 * LANES) == 0;
#else
    return floats < 0 && line && to; /* never */
#endif
}

/* A register of what is written `past` the caches, or not; `settle` before another thread reads it. */
ALWAYS void put(float *to, numbers value, int past)
{
#if defined(__AVX512F__)
    if (past) {
        _mm512_stream_ps(to, (__m512)value);
        return;
    }
#elif defined(__AVX2__)
    if (past) {
        _mm256_stream_ps(to, (__m256)value);
        return;
    }
#elif defined(__SSE__)
    if (past) {
        _mm_stream_ps(to, (__m128)value);
        return;
    }
#endif
    write(to, value);
}

ALWAYS void settle(int past)
{
#ifdef __SSE__
    if (past) _mm_sfence();
#endif
}

/* ROWS rows of `depth` floats, `row` floats apart, by a matrix (depth,WIDE), its rows `line` floats apart: their products,
   added to the sums. */
ALWAYS void add_product(int64_t depth, const float *restrict rows, int64_t row, const float *restrict matrix, int64_t line,
                        numbers (*restrict sum)[2])
{
    for (int64_t c = 0; c < depth; c++) {
        const numbers first = read(matrix + c * line), second = read(matrix + c * line + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const float one = rows[r * row + c];
            sum[r][0] += one * first;
            sum[r][1] += one * second;
        }
    }
}

/* The same product -> WIDE numbers a row, `apart` floats from one row to the next. */
ALWAYS void product(int64_t depth, const float *restrict rows, int64_t row, const float *restrict matrix, int64_t line,
                    float *restrict products, int64_t apart)
{
    numbers sum[ROWS][2] = {{{0}}};
    add_product(depth, rows, row, matrix, line, sum);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        write(products + r * apart, sum[r][0]);
        write(products + r * apart + LANES, sum[r][1]);
    }
}

/* Lines a (count,WIDE) and b (count,WIDE), of which TALL numbers each -> sums over the lines of their products (TALL,WIDE);
   more: added to what is there. */
ALWAYS void product_over(int64_t count, int more, const float *restrict a, const float *restrict b, float *restrict sums)
{
    numbers sum[TALL][2];
    for (int r = 0; r < TALL; r++)
        for (int k = 0; k < 2; k++) sum[r][k] = more ? read(sums + r * WIDE + k * LANES) : (numbers){0};
    for (int64_t t = 0; t < count; t++) {
        const numbers first = read(a + t * WIDE), second = read(a + t * WIDE + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < TALL; r++) {
            const float one = b[t * WIDE + r];
            sum[r][0] += one * first;
            sum[r][1] += one * second;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < TALL; r++) {
        write(sums + r * WIDE, sum[r][0]);
        write(sums + r * WIDE + LANES, sum[r][1]);
    }
}

#endif
