/* Registers full of single floats, and the product of matrices that they are for. */
#ifndef SPIKEPROOF_VECTORS
#define SPIKEPROOF_VECTORS

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Floats of a register; and the rows at once of a product, whose ROWS x 2 sums leave room for what is multiplied. */
#if defined(__AVX512F__)
#define LANES 16
#define ROWS 12
#elif defined(__AVX2__)
#define LANES 8
#define ROWS 6
#else
#define LANES 4
#define ROWS 6
#endif
#define WIDE (2 * LANES)

typedef float numbers __attribute__((vector_size(4 * LANES), aligned(4)));

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ALWAYS numbers read(const float *from) { return *(const numbers *)from; }
ALWAYS void write(float *to, numbers value) { *(numbers *)to = value; }

/* ROWS rows of `depth` floats, `row` floats apart, by a matrix (depth,WIDE), its rows `line` floats apart -> WIDE of their
   products, `apart` floats from one row to the next. */
ALWAYS void product(int64_t depth, const float *restrict rows, int64_t row, const float *restrict matrix, int64_t line,
                    float *restrict products, int64_t apart)
{
    numbers sum[ROWS][2] = {{{0}}};
    for (int64_t c = 0; c < depth; c++) {
        const numbers first = read(matrix + c * line), second = read(matrix + c * line + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const float one = rows[r * row + c];
            sum[r][0] += one * first;
            sum[r][1] += one * second;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        write(products + r * apart, sum[r][0]);
        write(products + r * apart + LANES, sum[r][1]);
    }
}

#endif
