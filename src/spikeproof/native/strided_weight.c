/* The gradient of a weight that steps over pixels (strided.c): of each tap a product of the pixels that it sees and the
   gradient of their results, summed over the images, position by position. */
#include "convolution.h"

#define HELD (1 << 19) /* floats of maps and results at once, which caches hold */

/* `count` images x (,pixels,channels) -> (pixels,channels / WIDE,count,WIDE). */
ALWAYS void apart(int32_t threads, int64_t count, int64_t pixels, int64_t channels, const float *x, float *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < count; n++)
        for (int64_t part = 0; part < pixels * (channels / WIDE); part++)
            memcpy(out + (part * count + n) * WIDE, x + n * pixels * channels + part * WIDE, sizeof(float) * WIDE);
}

/* Along one axis, the first result of which a tap sees a pixel and not the zeros around, and the one behind the last. */
ALWAYS int64_t first_of(int64_t tap, int64_t before, int64_t stride)
{
    return tap >= before ? 0 : (before - tap + stride - 1) / stride;
}
ALWAYS int64_t end_of(int64_t tap, int64_t before, int64_t stride, int64_t size, int64_t count)
{
    return size + before - tap <= 0 ? 0 : least(count, (size + before - tap - 1) / stride + 1);
}

/* Maps x (N,H,W,C) and the gradient of the results up (N,down,across,K) -> that of the weight out (K,C,taps); C and K are
   multiples of 32. 0 where there is no memory for images and sums. */
int32_t spikeproof_strided_weight(const struct convolution *g, int32_t threads, const float *x, const float *up,
                                  float *out)
{
    const int64_t pixels = g->height * g->width, results = g->down * g->across, taps = g->tall * g->broad;
    const int64_t of_image = pixels * g->channels, of_result = results * g->results;
    const int64_t some = least(most(HELD / (of_image + of_result), WIDE), g->images);
    const int64_t wide = g->channels / WIDE, tall = g->results / WIDE, whole = taps * g->results * g->channels;
    float *sums = calloc((size_t)(whole + some * (of_image + of_result)), sizeof(float));
    if (!sums) return 0;
    float *seen_here = sums + whole, *made_here = seen_here + some * of_image;
    for (int64_t first = 0; first < g->images; first += some) {
        const int64_t count = least(some, g->images - first);
        apart(threads, count, pixels, g->channels, x + first * of_image, seen_here);
        apart(threads, count, results, g->results, up + first * of_result, made_here);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
        for (int64_t part = 0; part < taps * tall * wide; part++) {
            const int64_t i = part / (tall * wide) / g->broad, j = part / (tall * wide) % g->broad;
            const int64_t k = part / wide % tall, c = part % wide;
            const int64_t bottom = end_of(i, g->top, g->stride_down, g->height, g->down);
            const int64_t right = end_of(j, g->left, g->stride_across, g->width, g->across);
            for (int64_t row = first_of(i, g->top, g->stride_down); row < bottom; row++)
                for (int64_t column = first_of(j, g->left, g->stride_across); column < right; column++) {
                    const int64_t y = row * g->stride_down + i - g->top, z = column * g->stride_across + j - g->left;
                    const float *of_maps = seen_here + ((y * g->width + z) * wide + c) * count * WIDE;
                    const float *of_results = made_here + ((row * g->across + column) * tall + k) * count * WIDE;
                    for (int64_t r = 0; r < WIDE; r += TALL)
                        product_over(count, 1, of_maps, of_results + r, sums + (part * WIDE + r) * WIDE);
                }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < g->results * g->channels; line++) {
        const int64_t result = line / g->channels, channel = line % g->channels;
        const float *from = sums + (result / WIDE * wide + channel / WIDE) * WIDE * WIDE + result % WIDE * WIDE
                            + channel % WIDE;
        for (int64_t tap = 0; tap < taps; tap++) out[line * taps + tap] = from[tap * g->results * g->channels];
    }
    free(sums);
    return 1;
}
