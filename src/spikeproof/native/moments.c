/* Sums of the values of each map and of their squares, in double precision. */
#include <stdint.h>

#define TOGETHER 8 /* sums of one map that do not wait for each other */

/* One image, channels-last (pixels,channels). */
static void by_pixels(int64_t channels, int64_t pixels, const float *restrict x, double *restrict sums,
                      double *restrict squares)
{
    for (int64_t c = 0; c < channels; c++) sums[c] = squares[c] = 0.0;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < channels; c++) {
            const double value = x[p * channels + c];
            sums[c] += value;
            squares[c] += value * value;
        }
}

/* One map (pixels). */
static void of_map(int64_t pixels, const float *restrict x, double *restrict sum, double *restrict square)
{
    double sums[TOGETHER] = {0.0}, squares[TOGETHER] = {0.0};
    int64_t p = 0;
    for (; p + TOGETHER <= pixels; p += TOGETHER)
        for (int i = 0; i < TOGETHER; i++) {
            const double value = x[p + i];
            sums[i] += value;
            squares[i] += value * value;
        }
    for (int i = 0; p < pixels; p++, i++) {
        const double value = x[p];
        sums[i] += value;
        squares[i] += value * value;
    }
    *sum = *square = 0.0;
    for (int i = 0; i < TOGETHER; i++) *sum += sums[i], *square += squares[i];
}

/* Maps x of images, last (N,pixels,channels) or not (N,channels,pixels) -> sums and squares (N,channels). */
int32_t spikeproof_moments(int64_t images, int64_t channels, int64_t pixels, int32_t last, int32_t threads,
                           const float *x, double *sums, double *squares)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        const float *image = x + n * channels * pixels;
        if (last)
            by_pixels(channels, pixels, image, sums + n * channels, squares + n * channels);
        else
            for (int64_t c = 0; c < channels; c++) {
                const int64_t at = n * channels + c;
                of_map(pixels, image + c * pixels, sums + at, squares + at);
            }
    }
    return 1;
}
