/* 3x3 convolutions of channels-last maps, stride 1 and one pixel of zeros around, with fewer products than they have
   taps. A map is cut into tiles. The pixels that a tile's results see, and the kernel, are taken to `points` points down
   and across, where a convolution is one product (Winograd 1980; Lavin and Gray, CVPR 2016): for pixels d and a kernel k,
   results = A' [(G k G') * (B' d B)] A, where * is product by product. Channels make a matrix product of every point.

   points  results  pixels seen
      3     2 x 2      2 x 2      a whole map, zeros around it left out: x0 + x1, x1, x0
      4     2 x 2      4 x 4      interpolated at 0, 1, -1, infinity
      6     4 x 4      6 x 6      at 2 and -2 besides

   Each tile is computed alike, whatever the images beside it. With 3 and 4 points a result is made of the pixels that it
   sees. With 6 it is made of the whole tile, what it does not see being taken away again but for rounding: so one that
   sees no pixel but zeros is written as the bias itself, and others may meet a NaN that they do not see.
*/
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Channels at once, and tiles at once: sums of ROWS x 2 registers, which leave room for what is multiplied. */
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
#define TILES 48 /* of a block: of some hundred channels its points and its products stay in the second-level cache */
#define APART 64 /* floats between the points of a block: at multiples of 4096 bytes they would share a set of the cache */

typedef float numbers __attribute__((vector_size(4 * LANES), aligned(4)));

#define ALWAYS static inline __attribute__((always_inline))

struct maps {
    int64_t images, height, width, channels, results;
};

/* Of a line of a tile, by its points. */
ALWAYS int side_of(int points) { return points == 6 ? 4 : 2; }
ALWAYS int span_of(int points) { return points == 3 ? 2 : points; }
ALWAYS int before_of(int points) { return points == 3 ? 0 : 1; }

ALWAYS int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
ALWAYS int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
ALWAYS numbers read(const float *from) { return *(const numbers *)from; }
ALWAYS void write(float *to, numbers value) { *(numbers *)to = value; }

/* B' d: the pixels of a line -> its points. */
ALWAYS void to_points(int points, const numbers *d, numbers *e)
{
    if (points == 3) {
        e[0] = d[0] + d[1];
        e[1] = d[1];
        e[2] = d[0];
    } else if (points == 4) {
        e[0] = d[0] - d[2];
        e[1] = d[1] + d[2];
        e[2] = d[2] - d[1];
        e[3] = d[1] - d[3];
    } else {
        const numbers far = d[4] - 4.0f * d[2], near = d[3] - 4.0f * d[1];
        const numbers even = d[4] - d[2], odd = 2.0f * (d[3] - d[1]);
        e[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
        e[1] = far + near;
        e[2] = far - near;
        e[3] = even + odd;
        e[4] = even - odd;
        e[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
    }
}

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

/* A y: the gradient of the results of a line -> that of its points. */
ALWAYS void spread(int points, const numbers *y, numbers *e)
{
    if (points == 3) {
        e[0] = y[0] + y[1];
        e[1] = y[0];
        e[2] = y[1];
    } else if (points == 4) {
        e[0] = y[0];
        e[1] = y[0] + y[1];
        e[2] = y[0] - y[1];
        e[3] = -y[1];
    } else {
        const numbers even = y[0] + y[2], odd = y[1] + y[3];
        const numbers far = y[0] + 4.0f * y[2], apart = 2.0f * y[1] + 8.0f * y[3];
        e[0] = y[0];
        e[1] = even + odd;
        e[2] = even - odd;
        e[3] = far + apart;
        e[4] = far - apart;
        e[5] = y[3];
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

/* The tile of an image whose first pixel is (top,left), of all channels -> its points, `apart` floats one from another.
   back: the image is the gradient of results, and its tiles do not overlap. */
ALWAYS void seen(int points, int back, const struct maps *g, const float *image, int64_t top, int64_t left, float *out,
                 int64_t apart)
{
    const int span = back ? side_of(points) : span_of(points);
    for (int64_t c = 0; c < g->channels; c += LANES) {
        numbers down[6][6];
        for (int j = 0; j < span; j++) {
            numbers column[6], found[6];
            for (int i = 0; i < span; i++) {
                const int64_t y = top + i, x = left + j;
                const int inside = y >= 0 && y < g->height && x >= 0 && x < g->width;
                column[i] = inside ? read(image + (y * g->width + x) * g->channels + c) : (numbers){0};
            }
            back ? spread(points, column, found) : to_points(points, column, found);
            for (int i = 0; i < points; i++) down[i][j] = found[i];
        }
        for (int i = 0; i < points; i++) {
            numbers found[6];
            back ? spread(points, down[i], found) : to_points(points, down[i], found);
            for (int j = 0; j < points; j++) write(out + (i * points + j) * apart + c, found[j]);
        }
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

/* Products of a tile at its points -> its results, from pixel (top,left) of an image on; seeing: which see anything. */
ALWAYS void made(int points, const struct maps *g, const float *products, int64_t apart, const float *bias, int64_t top,
                 int64_t left, uint32_t seeing, float *image)
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
                write(image + ((top + i) * g->width + left + j) * g->results + c,
                      seeing >> (i * side + j) & 1 ? found[j] + shift : shift);
        }
    }
}

/* ROWS tiles (,channels) at one point by a kernel (channels,WIDE) -> WIDE of their products (,results). */
ALWAYS void product(const float *restrict tiles, const float *restrict kernel, const struct maps *g,
                    float *restrict products)
{
    numbers sum[ROWS][2] = {{{0}}};
    for (int64_t c = 0; c < g->channels; c++) {
        const numbers first = read(kernel + c * WIDE), second = read(kernel + c * WIDE + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            const float one = tiles[r * g->channels + c];
            sum[r][0] += one * first;
            sum[r][1] += one * second;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        write(products + r * g->results, sum[r][0]);
        write(products + r * g->results + LANES, sum[r][1]);
    }
}

/* A block of `count` tiles, the first of which is number `first` of all images. */
ALWAYS void block(int points, const struct maps *g, int64_t first, int64_t count, const float *x, const uint8_t *living,
                  const float *kernels, const float *bias, float *out, float *seen_here, float *products)
{
    const int64_t side = side_of(points), before = before_of(points), pixels = g->height * g->width;
    const int64_t down = (g->height + side - 1) / side, across = (g->width + side - 1) / side;
    const int64_t here = TILES * g->channels + APART, there = TILES * g->results + APART;
    for (int64_t t = 0; t < count; t++) {
        const int64_t image = (first + t) / (down * across), tile = (first + t) % (down * across);
        seen(points, 0, g, x + image * pixels * g->channels, tile / across * side - before, tile % across * side - before,
             seen_here + t * g->channels, here);
    }
    for (int64_t p = 0; p < points * points; p++)
        for (int64_t c = 0; c < g->results; c += WIDE)
            for (int64_t t = 0; t < count; t += ROWS)
                product(seen_here + p * here + t * g->channels, kernels + (p * g->results + c) * g->channels, g,
                        products + p * there + t * g->results + c);
    for (int64_t t = 0; t < count; t++) {
        const int64_t image = (first + t) / (down * across), tile = (first + t) % (down * across);
        const int64_t top = tile / across * side, left = tile % across * side;
        const uint32_t seeing = points == 6 ? lit((int)side, g, living + image * pixels, top, left) : ~0u;
        made(points, g, products + t * g->results, there, bias, top, left, seeing, out + image * pixels * g->results);
    }
}

/* Maps x (N,H,W,C) -> the points of their tiles (points^2,tiles,C), for the gradient of a weight; back: x is the gradient
   of results. */
int32_t spikeproof_winograd_points(int32_t points, int32_t back, const struct maps *g, int32_t threads, const float *x,
                                   float *out)
{
    const int64_t side = side_of(points), before = back ? 0 : before_of(points);
    const int64_t down = (g->height + side - 1) / side, across = (g->width + side - 1) / side;
    const int64_t tiles = g->images * down * across, apart = tiles * g->channels;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t tile = t % (down * across), top = tile / across * side - before, left = tile % across * side - before;
        const float *image = x + t / (down * across) * g->height * g->width * g->channels;
        float *to = out + t * g->channels;
        if (points == 3)
            back ? seen(3, 1, g, image, top, left, to, apart) : seen(3, 0, g, image, top, left, to, apart);
        else if (points == 4)
            back ? seen(4, 1, g, image, top, left, to, apart) : seen(4, 0, g, image, top, left, to, apart);
        else
            back ? seen(6, 1, g, image, top, left, to, apart) : seen(6, 0, g, image, top, left, to, apart);
    }
    return 1;
}

/* Where the taps of a weight lie: floats from one result, channel, row and column to the next. */
struct taps {
    int64_t results, channels, result, channel, row, column;
};

/* Of LANES results from `from` on, and one channel: the taps -> their points, `apart` floats one from another. */
ALWAYS void kernel_of(int points, const struct taps *w, const float *from, float *out, int64_t apart)
{
    numbers down[6][3];
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
                block(3, g, first, count, x, living, kernels, bias, out, room, room + size);
            else if (points == 4)
                block(4, g, first, count, x, living, kernels, bias, out, room, room + size);
            else
                block(6, g, first, count, x, living, kernels, bias, out, room, room + size);
        }
        free(room);
    }
    free(living);
    return whole;
}
