/* The convolution of maps by tiles (winograd.h), and the kernels that it multiplies by. */
#include "winograd.h"

#define TILES 48 /* of a block: of some hundred channels its points and its products stay in the second-level cache */

/* A' q: the points of a line -> its results. */
ALWAYS void from_points(int points, const numbers *q, numbers *s)
{
    if (points == 3) {
        s[0] = q[0] + q[1];
        s[1] = q[0] + q[2];
    } else if (points == 4) {
        s[0] = q[0] + q[1] + q[2];
        s[1] = q[1] - q[2] - q[3];
    } else {
        const numbers sum = q[1] + q[2], difference = q[1] - q[2], far = q[3] + q[4], apart = q[3] - q[4];
        s[0] = q[0] + sum + far;
        s[1] = difference + 2.0f * apart;
        s[2] = sum + 4.0f * far;
        s[3] = difference + 8.0f * apart + q[5];
    }
}

/* G k: the taps of a line -> its points. */
ALWAYS void kernel_points(int points, const numbers *k, numbers *e)
{
    if (points == 3) {
        e[0] = k[1];
        e[1] = k[2] - k[1];
        e[2] = k[0] - k[1];
    } else if (points == 4) {
        const numbers ends = 0.5f * (k[0] + k[2]), middle = 0.5f * k[1];
        e[0] = k[0];
        e[1] = ends + middle;
        e[2] = ends - middle;
        e[3] = k[2];
    } else {
        const numbers ends = (k[0] + k[2]) / -6.0f, middle = k[1] / -6.0f;
        const numbers far = k[0] / 24.0f + k[2] / 6.0f, apart = k[1] / 12.0f;
        e[0] = 0.25f * k[0];
        e[1] = ends + middle;
        e[2] = ends - middle;
        e[3] = far + apart;
        e[4] = far - apart;
        e[5] = k[2];
    }
}

/* Whether any channel of a pixel is not 0. */
ALWAYS uint8_t alive(const struct maps *g, const float *pixel)
{
    for (int64_t c = 0; c < g->channels; c++)
        if (pixel[c] != 0.0f) return 1;
    return 0;
}

/* Of the results of a tile those that see a pixel which is alive, one bit each. */
ALWAYS uint32_t lit(int side, const struct maps *g, const uint8_t *of_image, int64_t top, int64_t left)
{
    uint32_t found = 0;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            uint8_t any = 0;
            for (int64_t y = most(top + i - 1, 0); y <= least(top + i + 1, g->height - 1); y++)
                for (int64_t x = most(left + j - 1, 0); x <= least(left + j + 1, g->width - 1); x++)
                    any |= of_image[y * g->width + x];
            found |= (uint32_t)any << (i * side + j);
        }
    return found;
}

/* Products of a tile at its points -> its results, from pixel (top,left) of an image on, `past` the caches or not; seeing:
   which see anything. */
ALWAYS void made(int points, const struct maps *g, const float *products, int64_t apart, const float *bias, int64_t top,
                 int64_t left, uint32_t seeing, int past, float *image)
{
    const int side = side_of(points);
    for (int64_t c = 0; c < g->results; c += LANES) {
        const numbers shift = bias ? read(bias + c) : (numbers){0};
        numbers down[4][6];
        for (int j = 0; j < points; j++) {
            numbers column[6], found[4];
            for (int i = 0; i < points; i++) column[i] = read(products + (i * points + j) * apart + c);
            from_points(points, column, found);
            for (int i = 0; i < side; i++) down[i][j] = found[i];
        }
        for (int i = 0; i < side && top + i < g->height; i++) {
            numbers found[4];
            from_points(points, down[i], found);
            for (int j = 0; j < side && left + j < g->width; j++)
                put(image + ((top + i) * g->width + left + j) * g->results + c,
                    seeing >> (i * side + j) & 1 ? found[j] + shift : shift, past);
        }
    }
}

/* A block of `count` tiles, the first of which is number `first` of all images. */
ALWAYS void block(int points, const struct maps *g, int64_t first, int64_t count, const float *x, const uint8_t *living,
                  const float *kernels, const float *bias, int past, float *out, float *seen_here, float *products)
{
    const int64_t side = side_of(points), before = before_of(points), pixels = g->height * g->width;
    const int64_t down = (g->height + side - 1) / side, across = (g->width + side - 1) / side;
    const int64_t here = TILES * g->channels + APART, there = TILES * g->results + APART;
    for (int64_t t = 0; t < count; t++) {
        const int64_t image = (first + t) / (down * across), tile = (first + t) % (down * across);
        seen(points, 0, g, x + image * pixels * g->channels, tile / across * side - before, tile % across * side - before,
             seen_here + t * g->channels, here, WIDE);
    }
    for (int64_t p = 0; p < points * points; p++)
        for (int64_t c = 0; c < g->results; c += WIDE)
            for (int64_t t = 0; t < count; t += ROWS)
                product(g->channels, seen_here + p * here + t * g->channels, g->channels,
                        kernels + (p * g->results + c) * g->channels, WIDE, products + p * there + t * g->results + c,
                        g->results);
    for (int64_t t = 0; t < count; t++) {
        const int64_t image = (first + t) / (down * across), tile = (first + t) % (down * across);
        const int64_t top = tile / across * side, left = tile % across * side;
        const uint32_t seeing = points == 6 ? lit((int)side, g, living + image * pixels, top, left) : ~0u;
        made(points, g, products + t * g->results, there, bias, top, left, seeing, past,
             out + image * pixels * g->results);
    }
}

/* Where the taps of a weight lie: floats from one result, channel, row and column to the next. */
struct taps {
    int64_t results, channels, result, channel, row, column;
};

/* Of LANES results from `from` on, and one channel: the taps -> their points, `apart` floats one from another. */
ALWAYS void kernel_of(int points, const struct taps *w, const float *from, float *out, int64_t apart)
{
    numbers down[6][3];
    for (int k = 0; k < LANES; k++) /* taps of some channels ahead: too many streams for the processor to follow */
        __builtin_prefetch(from + k * w->result + 4 * w->channel);
    for (int j = 0; j < 3; j++) {
        numbers column[3] = {{0}}, found[6];
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < LANES; k++) column[i][k] = from[k * w->result + i * w->row + j * w->column];
        kernel_points(points, column, found);
        for (int i = 0; i < points; i++) down[i][j] = found[i];
    }
    for (int i = 0; i < points; i++) {
        numbers found[6];
        kernel_points(points, down[i], found);
        for (int j = 0; j < points; j++) write(out + (i * points + j) * apart, found[j]);
    }
}

/* A weight, its first tap at `first` -> kernels (points^2,K / WIDE,C,WIDE). */
int32_t spikeproof_winograd_kernels(int32_t points, const struct taps *w, int32_t threads, const float *first, float *out)
{
    const int64_t apart = w->results * w->channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < w->results / WIDE * w->channels; line++) {
        const int64_t group = line / w->channels, channel = line % w->channels;
        for (int64_t k = 0; k < WIDE; k += LANES) {
            const float *from = first + (group * WIDE + k) * w->result + channel * w->channel;
            if (points == 3)
                kernel_of(3, w, from, out + line * WIDE + k, apart);
            else if (points == 4)
                kernel_of(4, w, from, out + line * WIDE + k, apart);
            else
                kernel_of(6, w, from, out + line * WIDE + k, apart);
        }
    }
    return 1;
}

/* Maps x (N,H,W,C) by kernels (points^2,K / WIDE,C,WIDE), with a bias (K,) or NULL -> out (N,H,W,K); C and K are
   multiples of 32, points is 3 (of 2 x 2 maps alone), 4 or 6. 0 where there is no memory for a thread's block. */
int32_t spikeproof_winograd(int32_t points, const struct maps *g, int32_t threads, const float *x, const float *kernels,
                            const float *bias, float *out)
{
    const int64_t side = side_of(points), of_tile = points * points;
    const int64_t tiles = g->images * ((g->height + side - 1) / side) * ((g->width + side - 1) / side);
    const int64_t rows = (tiles + ROWS - 1) / ROWS;
    const int64_t size = of_tile * (TILES * g->channels + APART), rest = of_tile * (TILES * g->results + APART);
    const int64_t pixels = g->images * g->height * g->width;
    /* Where a register is a line of the cache: what is written lies apart. */
    const int past = LANES == 16 && past_caches(pixels * g->results, g->results, out);
    uint8_t *living = NULL;
    int32_t whole = 1;
    if (points == 6) {
        living = malloc((size_t)pixels);
        if (!living) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t pixel = 0; pixel < pixels; pixel++) living[pixel] = alive(g, x + pixel * g->channels);
    }
#pragma omp parallel for num_threads(threads) schedule(static) reduction(&& : whole)
    for (int64_t thread = 0; thread < threads; thread++) {
        const int64_t end = least(rows * (thread + 1) / threads * ROWS, tiles);
        float *room = malloc(sizeof(float) * (size_t)(size + rest));
        whole = whole && room;
        if (!room) continue;
        memset(room, 0, sizeof(float) * (size_t)size); /* rows behind the last tile are multiplied, and left */
        for (int64_t first = rows * thread / threads * ROWS; first < end; first += TILES) {
            const int64_t count = least(TILES, end - first);
            if (points == 3)
                block(3, g, first, count, x, living, kernels, bias, past, out, room, room + size);
            else if (points == 4)
                block(4, g, first, count, x, living, kernels, bias, past, out, room, room + size);
            else
                block(6, g, first, count, x, living, kernels, bias, past, out, room, room + size);
        }
        free(room);
        settle(past);
    }
    free(living);
    return whole;
}
