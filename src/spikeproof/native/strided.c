/* Convolutions that step over pixels, position by position. What a result sees of the maps, and what a pixel gets back
   from the results, are the same few places in every image, each by its tap; so the images are the rows of a product of
   matrices, and no tap is multiplied by the zeros around the maps. */
#include "convolution.h"

#define BLOCK 48 /* images at once, a multiple of ROWS: so often is read what the second-level cache may not hold */
#define PANEL 32 /* numbers of a line of a matrix, a multiple of WIDE on every processor */
#define APART 16 /* floats between the rows: at multiples of 4096 bytes they would share a set of the cache */

/* A pixel and the tap that it is multiplied by. */
struct place {
    int64_t pixel, tap;
};

/* What the result at (y,x) sees of the maps. */
ALWAYS int64_t seen_by(const struct convolution *g, int64_t y, int64_t x, struct place *places)
{
    const int64_t top = y * g->stride_down - g->top, left = x * g->stride_across - g->left;
    int64_t count = 0;
    for (int64_t i = most(-top, 0); i < least(g->tall, g->height - top); i++)
        for (int64_t j = most(-left, 0); j < least(g->broad, g->width - left); j++)
            places[count++] = (struct place){(top + i) * g->width + left + j, i * g->broad + j};
    return count;
}

/* The results that see the pixel (y,x). */
ALWAYS int64_t seeing(const struct convolution *g, int64_t y, int64_t x, struct place *places)
{
    int64_t count = 0;
    for (int64_t i = 0; i < g->tall; i++)
        for (int64_t j = 0; j < g->broad; j++) {
            const int64_t down = y + g->top - i, across = x + g->left - j;
            const int64_t row = down / g->stride_down, column = across / g->stride_across;
            const int whole = row * g->stride_down == down && column * g->stride_across == across;
            if (whole && down >= 0 && across >= 0 && row < g->down && column < g->across)
                places[count++] = (struct place){row * g->across + column, i * g->broad + j};
        }
    return count;
}

/* ROWS rows of `count` places of `depth` numbers, `row` floats apart, by WIDE numbers of their taps' matrices, and a shift
   -> the first `rows` of their sums, `apart` floats from one to the next. */
ALWAYS void sums_of(int64_t count, const struct place *places, int64_t depth, const float *packed, int64_t row,
                    const float *matrices, int64_t of_tap, const float *shift, int64_t rows, float *out, int64_t apart)
{
    numbers sum[ROWS][2];
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < 2; k++) sum[r][k] = shift ? read(shift + k * LANES) : (numbers){0};
    for (int64_t p = 0; p < count; p++)
        add_product(depth, packed + p * depth, row, matrices + places[p].tap * of_tap, PANEL, sum);
    for (int64_t r = 0; r < rows; r++)
        for (int k = 0; k < 2; k++) write(out + r * apart + k * LANES, sum[r][k]);
}

/* x (N,H,W,C) and matrices (taps,K / PANEL,C,PANEL), with a bias (K,) or NULL -> out (N,down,across,K). back: x are the
   gradients of the results (N,down,across,K), the matrices (taps,C / PANEL,K,PANEL), and out (N,H,W,C). C and K are
   multiples of PANEL. 0 where there is no memory for the rows of a block. */
int32_t spikeproof_strided(const struct convolution *g, int32_t back, int32_t threads, const float *x,
                           const float *matrices, const float *bias, float *out)
{
    const int64_t pixels = g->height * g->width, results = g->down * g->across, taps = g->tall * g->broad;
    const int64_t from = back ? results : pixels, to = back ? pixels : results, columns = back ? g->width : g->across;
    const int64_t depth = back ? g->results : g->channels, wide = back ? g->channels : g->results;
    const int64_t blocks = (g->images + BLOCK - 1) / BLOCK, largest = least(taps, from) * depth + APART;
    int32_t whole = 1;
#pragma omp parallel num_threads(threads) reduction(&& : whole)
    {
        struct place *places = malloc(sizeof(struct place) * (size_t)taps);
        /* Rows behind the last one are multiplied too, and left. */
        float *packed = calloc((size_t)(BLOCK * largest), sizeof(float));
        whole = places && packed;
#pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < blocks * to; part++) {
            if (!whole) continue;
            const int64_t at = part % to, first = part / to * BLOCK, images = least(BLOCK, g->images - first);
            const int64_t y = at / columns, z = at % columns;
            const int64_t count = back ? seeing(g, y, z, places) : seen_by(g, y, z, places);
            const int64_t row = count * depth + APART;
            for (int64_t n = 0; n < images; n++)
                for (int64_t p = 0; p < count; p++)
                    memcpy(packed + n * row + p * depth, x + ((first + n) * from + places[p].pixel) * depth,
                           sizeof(float) * (size_t)depth);
            for (int64_t k = 0; k < wide; k += WIDE)
                for (int64_t n = 0; n < images; n += ROWS)
                    sums_of(count, places, depth, packed + n * row, row,
                            matrices + k / PANEL * PANEL * depth + k % PANEL, depth * wide, bias ? bias + k : NULL,
                            least(ROWS, images - n), out + ((first + n) * to + at) * wide + k, to * wide);
        }
        free(places);
        free(packed);
    }
    return whole;
}
