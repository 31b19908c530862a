/* The gradient of a weight by tiles (winograd.h): at each point a product of what tiles see and the gradient of their
   results, summed over the tiles, and taken from the points back to the taps. */
#include "winograd.h"

#define HELD (1 << 19) /* floats at the points of tiles at once, which caches hold */

/* G' e: the gradient of the points of a line -> that of its taps. */
ALWAYS void taps_of(int points, const numbers *e, numbers *k)
{
    if (points == 3) {
        k[0] = e[2];
        k[1] = e[0] - e[1] - e[2];
        k[2] = e[1];
    } else if (points == 4) {
        const numbers sum = 0.5f * (e[1] + e[2]);
        k[0] = e[0] + sum;
        k[1] = 0.5f * (e[1] - e[2]);
        k[2] = sum + e[3];
    } else {
        const numbers sum = (e[1] + e[2]) / -6.0f, difference = (e[1] - e[2]) / -6.0f;
        const numbers far = e[3] + e[4], apart = e[3] - e[4];
        k[0] = 0.25f * e[0] + sum + far / 24.0f;
        k[1] = difference + apart / 12.0f;
        k[2] = sum + far / 6.0f + e[5];
    }
}

/* Tiles number `first` to `first + count` of maps -> their points (points^2,C / WIDE,count,WIDE). */
ALWAYS void points_of(int points, int back, const struct maps *g, int32_t threads, int64_t first, int64_t count,
                      const float *x, float *out)
{
    const int64_t side = side_of(points), before = back ? 0 : before_of(points);
    const int64_t down = (g->height + side - 1) / side, across = (g->width + side - 1) / side;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < count; t++) {
        const int64_t image = (first + t) / (down * across), tile = (first + t) % (down * across);
        seen(points, back, g, x + image * g->height * g->width * g->channels, tile / across * side - before,
             tile % across * side - before, out + t * WIDE, count * g->channels + APART, count * WIDE);
    }
}

/* All tiles, some at a time -> the sums at each point (points^2,K / WIDE,C / WIDE,WIDE,WIDE). */
ALWAYS void summed(int points, const struct maps *g, int32_t threads, const float *x, const float *up, int64_t tiles,
                   int64_t some, float *seen_here, float *made_here, float *sums)
{
    const struct maps of_up = {g->images, g->height, g->width, g->results, 0};
    const int64_t wide = g->channels / WIDE, tall = g->results / WIDE;
    for (int64_t first = 0; first < tiles; first += some) {
        const int64_t count = least(some, tiles - first);
        points_of(points, 0, g, threads, first, count, x, seen_here);
        points_of(points, 1, &of_up, threads, first, count, up, made_here);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t part = 0; part < points * points * tall * wide; part++) {
            const int64_t p = part / (tall * wide), k = part / wide % tall, c = part % wide;
            const float *of_tiles = seen_here + p * (count * g->channels + APART) + c * count * WIDE;
            const float *of_results = made_here + p * (count * g->results + APART) + k * count * WIDE;
            for (int64_t r = 0; r < WIDE; r += TALL)
                product_over(count, first > 0, of_tiles, of_results + r, sums + (part * WIDE + r) * WIDE);
        }
    }
}

/* The sums of LANES channels from c on and of one result, at their points -> their taps (LANES,3,3). */
ALWAYS void taps(int points, const struct maps *g, const float *sums, int64_t result, int64_t c, float *out)
{
    const int64_t apart = g->results * g->channels;
    const float *from = sums + (result / WIDE * (g->channels / WIDE) + c / WIDE) * WIDE * WIDE + result % WIDE * WIDE
                        + c % WIDE;
    numbers down[3][6], found[3][3];
    for (int j = 0; j < points; j++) {
        numbers column[6], of_column[3];
        for (int i = 0; i < points; i++) column[i] = read(from + (i * points + j) * apart);
        taps_of(points, column, of_column);
        for (int i = 0; i < 3; i++) down[i][j] = of_column[i];
    }
    for (int i = 0; i < 3; i++) taps_of(points, down[i], found[i]);
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 9; i++) out[lane * 9 + i] = found[i / 3][i % 3][lane];
}

/* Maps x (N,H,W,C) and the gradient of the results up (N,H,W,K) -> that of the weight out (K,C,3,3); C and K are
   multiples of 32, points is 3 (of 2 x 2 maps alone), 4 or 6. 0 where there is no memory for points and sums. */
int32_t spikeproof_winograd_weight(int32_t points, const struct maps *g, int32_t threads, const float *x,
                                   const float *up, float *out)
{
    const int64_t side = side_of(points), of_tile = points * points;
    const int64_t tiles = g->images * ((g->height + side - 1) / side) * ((g->width + side - 1) / side);
    const int64_t some = least(most(HELD / (of_tile * (g->channels + g->results)), WIDE), tiles);
    const int64_t size = of_tile * (some * g->channels + APART), rest = of_tile * (some * g->results + APART);
    const int64_t taken = size + rest + of_tile * g->channels * g->results;
    float *room = malloc(sizeof(float) * (size_t)taken);
    if (!room) return 0;
    float *made_here = room + size, *sums = made_here + rest;
    if (points == 3)
        summed(3, g, threads, x, up, tiles, some, room, made_here, sums);
    else if (points == 4)
        summed(4, g, threads, x, up, tiles, some, room, made_here, sums);
    else
        summed(6, g, threads, x, up, tiles, some, room, made_here, sums);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t result = 0; result < g->results; result++)
        for (int64_t c = 0; c < g->channels; c += LANES) {
            float *to = out + (result * g->channels + c) * 9;
            if (points == 3)
                taps(3, g, sums, result, c, to);
            else if (points == 4)
                taps(4, g, sums, result, c, to);
            else
                taps(6, g, sums, result, c, to);
        }
    free(room);
    return 1;
}
