/* The gradient of a convolution at maps of few channels, as the first layer has them: the gradient of each result by the
   whole kernel, a product of matrices, whose lines are added to the pixels that they belong to. */
#include "convolution.h"

/* A row of products (tall,broad,channels) of the result at (y,x) -> added to its pixels of an image. */
ALWAYS void add(const struct convolution *g, const float *restrict row, int64_t y, int64_t x, float *restrict image)
{
    const int64_t top = y * g->stride_down - g->top, left = x * g->stride_across - g->left;
    const int64_t from = most(-left, 0), to = least(g->broad, g->width - left);
    for (int64_t i = most(-top, 0); i < least(g->tall, g->height - top); i++) {
        const float *restrict products = row + (i * g->broad + from) * g->channels;
        float *restrict pixels = image + ((top + i) * g->width + left + from) * g->channels;
        for (int64_t c = 0; c < (to - from) * g->channels; c++) pixels[c] += products[c];
    }
}

/* The gradient of results up (N,down,across,results) and a kernel (results,wide), its taps and channels in the order of
   (tall,broad,channels) and zeros behind them -> that of the maps, out (N,height,width,channels). wide is a multiple of
   32, and an image has ROWS results and more. 0 where there is no memory for ROWS rows. */
int32_t spikeproof_few_backward(const struct convolution *g, int32_t threads, int64_t wide, const float *up,
                                const float *kernel, float *out)
{
    const int64_t pixels = g->down * g->across, size = g->height * g->width * g->channels;
    int32_t whole = 1;
#pragma omp parallel num_threads(threads) reduction(&& : whole)
    {
        float *rows = malloc(sizeof(float) * (size_t)(ROWS * wide));
        whole = rows != 0;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < g->images; n++) {
            if (!rows) continue;
            float *image = out + n * size;
            memset(image, 0, sizeof(float) * (size_t)size);
            for (int64_t t = 0; t < pixels; t += ROWS) {
                const int64_t first = least(t, pixels - ROWS); /* the last ones once more, rather than what is behind */
                for (int64_t c = 0; c < wide; c += WIDE)
                    product(g->results, up + (n * pixels + first) * g->results, g->results, kernel + c, wide, rows + c,
                            wide);
                for (int64_t r = t - first; r < ROWS; r++)
                    add(g, rows + r * wide, (first + r) / g->across, (first + r) % g->across, image);
            }
        }
        free(rows);
    }
    return whole;
}
