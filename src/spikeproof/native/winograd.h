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
#include "vectors.h"

#define APART 64 /* floats between the points of a block: at multiples of 4096 bytes they would share a set of the cache */

struct maps {
    int64_t images, height, width, channels, results;
};

/* Of a line of a tile, by its points. */
ALWAYS int side_of(int points) { return points == 6 ? 4 : 2; }
ALWAYS int span_of(int points) { return points == 3 ? 2 : points; }
ALWAYS int before_of(int points) { return points == 3 ? 0 : 1; }

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

/* The tile of an image whose first pixel is (top,left), of all channels -> its points, `apart` floats one from another,
   and WIDE channels `group` floats from the next ones. back: the image is the gradient of results, whose tiles do not
   overlap. */
ALWAYS void seen(int points, int back, const struct maps *g, const float *image, int64_t top, int64_t left, float *out,
                 int64_t apart, int64_t group)
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
        float *to = out + c / WIDE * group + c % WIDE;
        for (int i = 0; i < points; i++) {
            numbers found[6];
            back ? spread(points, down[i], found) : to_points(points, down[i], found);
            for (int j = 0; j < points; j++) write(to + (i * points + j) * apart, found[j]);
        }
    }
}
