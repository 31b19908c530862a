/* The convolution of maps that have no numbers but 0 and one other, as a phase code makes them of images: what a line of
   taps adds to a result is looked up by the bits that it sees, in tables (tall,channels,2^broad,results). */
#include "convolution.h"

#define LINES 64 /* of a kernel, in all channels, at most */

/* An image (channels,height,width) -> its lines (channels,height), a bit a pixel, the first one behind the zeros before
   the maps; and its value, 0 where it has zeros alone. 0 where it has more than one. */
static int32_t bits_of(const struct convolution *g, const float *image, uint64_t *lines, float *value)
{
    const int64_t size = g->channels * g->height * g->width;
    int64_t first = 0;
    while (first < size && image[first] == 0.0f) first++;
    const float one = *value = first < size ? image[first] : 0.0f;
    int32_t others = one - one != 0.0f; /* 0 times infinity is no 0 */
    for (int64_t line = 0; line < g->channels * g->height; line++) {
        const float *from = image + line * g->width;
        uint64_t bits = 0;
        for (int64_t x = 0; x < g->width; x++) {
            const int32_t zero = from[x] == 0.0f, same = from[x] == one;
            others |= !(zero | same);
            bits |= (uint64_t)(same & !zero) << (x + g->left);
        }
        lines[line] = bits;
    }
    return !others;
}

/* The result at (y,x) of an image's lines. */
ALWAYS void result(const struct convolution *g, const uint64_t *lines, float value, const float *tables,
                   const float *bias, int64_t y, int64_t x, int past, float *out)
{
    const int64_t top = y * g->stride_down - g->top, entries = (int64_t)1 << g->broad;
    const float *found[LINES];
    int count = 0;
    for (int64_t i = most(-top, 0); i < least(g->tall, g->height - top); i++)
        for (int64_t c = 0; c < g->channels; c++) {
            const int64_t seen = (int64_t)(lines[c * g->height + top + i] >> x * g->stride_across) & (entries - 1);
            found[count++] = tables + ((i * g->channels + c) * entries + seen) * g->results;
        }
    for (int64_t k = 0; k < g->results; k += LANES) {
        numbers sum = {0};
        for (int i = 0; i < count; i++) sum += read(found[i] + k);
        put(out + k, bias ? sum * value + read(bias + k) : sum * value, past);
    }
}

/* Maps x (N,channels,height,width), tables and a bias (results,) or NULL -> out (N,down,across,results), and for each
   image whether it has two values; nothing is written of one that has more. results is a multiple of 16, and a line
   with the zeros before it has 64 pixels at most. 0 where there is no memory for an image's lines. */
int32_t spikeproof_two_valued(const struct convolution *g, int32_t threads, const float *x, const float *tables,
                              const float *bias, float *out, uint8_t *fit)
{
    const int64_t pixels = g->down * g->across, size = g->channels * g->height * g->width;
    const int past = past_caches(g->images * pixels * g->results, g->results, out);
    int32_t whole = 1;
#pragma omp parallel num_threads(threads) reduction(&& : whole)
    {
        uint64_t *lines = malloc(sizeof(uint64_t) * (size_t)(g->channels * g->height));
        whole = lines != 0;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < g->images; n++) {
            float value;
            if (!lines) continue;
            fit[n] = (uint8_t)bits_of(g, x + n * size, lines, &value);
            for (int64_t p = 0; fit[n] && p < pixels; p++)
                result(g, lines, value, tables, bias, p / g->across, p % g->across, past,
                       out + (n * pixels + p) * g->results);
        }
        free(lines);
        settle(past);
    }
    return whole;
}
