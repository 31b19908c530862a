/* Max pools of channels-last maps and their gradient, value by value what torch's are: of equal maxima the first in the
   window counts, a NaN beats every number, and the gradients that a pixel gets are added in the order of the windows.
   And the gradient that goes to all the maxima of a window in equal shares (layers/pooling.py).

   A place is the number of a pixel in its window, row by row; it is remembered in one byte. Backwards every pixel asks
   the windows that it lies in, so that nothing is cleared before and each float is written once.
*/
#include "vectors.h"

/* As many channels at once. */
typedef int32_t words __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

struct window {
    int64_t images, height, width, channels, rows, columns; /* rows, columns: of the result */
    int64_t down, across, step_down, step_across, above, before; /* kernel, stride and padding */
};

/* The first m; the rest is 0. */
ALWAYS numbers some(const float *from, int m)
{
    numbers found = {0};
    memcpy(&found, from, sizeof(float) * (size_t)m);
    return found;
}

ALWAYS words chosen(words which, words a, words b) { return (a & which) | (b & ~which); }

/* Of m channels from c on: the maxima over the pixels from (top,left) on, and their places. */
ALWAYS void highest(const struct window *g, const float *image, int64_t top, int64_t left, int64_t c, int m, float *out,
                    uint8_t *where)
{
    numbers best = {0};
    words at = {0}, first = ~(words){0};
    for (int64_t y = most(0, -top); y < least(g->down, g->height - top); y++)
        for (int64_t z = most(0, -left); z < least(g->across, g->width - left); z++) {
            const numbers seen = some(image + ((top + y) * g->width + left + z) * g->channels + c, m);
            const words higher = first | (seen > best) | (seen != seen);
            best = (numbers)chosen(higher, (words)seen, (words)best);
            at = chosen(higher, (words){0} + (int32_t)(y * g->across + z), at);
            first = (words){0};
        }
    memcpy(out, &best, sizeof(float) * (size_t)m);
    if (where) {
        const bytes place = __builtin_convertvector(at, bytes);
        memcpy(where, &place, (size_t)m);
    }
}

/* x (N,H,W,C) -> out (N,rows,columns,C), and where its maxima were where that is not NULL. */
int32_t spikeproof_pool(const struct window *g, int32_t threads, const float *x, float *out, uint8_t *where)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < g->images * g->rows; line++) {
        const int64_t top = line % g->rows * g->step_down - g->above;
        const float *image = x + line / g->rows * g->height * g->width * g->channels;
        for (int64_t j = 0; j < g->columns; j++) {
            const int64_t left = j * g->step_across - g->before, to = (line * g->columns + j) * g->channels;
            for (int64_t c = 0; c < g->channels; c += LANES) {
                const int m = (int)least(LANES, g->channels - c);
                uint8_t *place = where ? where + to + c : 0;
                if (m == LANES)
                    highest(g, image, top, left, c, LANES, out + to + c, place);
                else
                    highest(g, image, top, left, c, m, out + to + c, place);
            }
        }
    }
    return 1;
}

/* Along one axis, the windows that hold a pixel, padding counted: from `first` to before `end`. */
struct holding {
    int64_t first, end;
};

static struct holding held(int64_t at, int64_t size, int64_t step, int64_t count)
{
    const struct holding found = {at < size ? 0 : (at - size + step) / step, least(count, at / step + 1)};
    return found;
}

/* The first m as words. By a loop: of one conversion of the whole vector gcc 12 makes sixteen. */
ALWAYS words widened(const uint8_t *from, int m)
{
    words found = {0};
    for (int i = 0; i < m; i++) found[i] = from[i];
    return found;
}

/* Of m channels from c on: what the windows that hold the pixel (y,z) send back to it; up and where: of one image. */
ALWAYS void gathered(const struct window *g, int64_t y, int64_t z, struct holding rows, struct holding columns, int m,
                     const float *up, const uint8_t *where, int past, float *out)
{
    numbers sum = {0};
    for (int64_t r = rows.first; r < rows.end; r++)
        for (int64_t k = columns.first; k < columns.end; k++) {
            const int64_t from = (r * g->columns + k) * g->channels;
            const words here = (words){0} + (int32_t)((y - r * g->step_down) * g->across + z - k * g->step_across);
            sum += (numbers)((words)some(up + from, m) & (widened(where + from, m) == here));
        }
    if (m == LANES)
        put(out, sum, past);
    else
        memcpy(out, &sum, sizeof(float) * (size_t)m);
}

/* The gradient of the result up (N,rows,columns,C), and where the maxima were -> that of the maps out (N,H,W,C). */
int32_t spikeproof_pool_backward(const struct window *g, int32_t threads, const float *up, const uint8_t *where,
                                 float *out)
{
    const int past = past_caches(g->images * g->height * g->width * g->channels, g->channels, out);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t line = 0; line < g->images * g->height; line++) {
            const int64_t y = line % g->height + g->above;
            const int64_t image = line / g->height * g->rows * g->columns * g->channels;
            const struct holding rows = held(y, g->down, g->step_down, g->rows);
            for (int64_t x = 0; x < g->width; x++) {
                const int64_t z = x + g->before;
                const struct holding columns = held(z, g->across, g->step_across, g->columns);
                float *to = out + (line * g->width + x) * g->channels;
                for (int64_t c = 0; c < g->channels; c += LANES) {
                    const int m = (int)least(LANES, g->channels - c);
                    if (m == LANES)
                        gathered(g, y, z, rows, columns, LANES, up + image + c, where + image + c, past, to + c);
                    else
                        gathered(g, y, z, rows, columns, m, up + image + c, where + image + c, past, to + c);
                }
            }
        }
        settle(past);
    }
    return 1;
}

/* Of m channels from c on: the gradient of one maximum, divided by how many pixels of its window have it. */
ALWAYS void divided(const struct window *g, const float *image, int64_t top, int64_t left, int64_t c, int m,
                    const float *highest_of, const float *up, float *share)
{
    const numbers best = some(highest_of, m);
    words ties = {0};
    for (int64_t y = most(0, -top); y < least(g->down, g->height - top); y++)
        for (int64_t z = most(0, -left); z < least(g->across, g->width - left); z++)
            ties -= some(image + ((top + y) * g->width + left + z) * g->channels + c, m) == best;
    const numbers found = some(up, m) / __builtin_convertvector(ties, numbers);
    memcpy(share, &found, sizeof(float) * (size_t)m);
}

/* Of m channels: the shares of the windows that hold the pixel (y,z) and have its value as their maximum. The last
   window comes first, as it does where one place of all windows after the other is looked at. */
ALWAYS void shared_out(const struct window *g, struct holding rows, struct holding columns, int m, const float *pixel,
                       const float *highest_of, const float *share, float *out)
{
    const numbers seen = some(pixel, m);
    numbers sum = {0};
    for (int64_t r = rows.end - 1; r >= rows.first; r--)
        for (int64_t k = columns.end - 1; k >= columns.first; k--) {
            const int64_t from = (r * g->columns + k) * g->channels;
            sum += (numbers)((words)some(share + from, m) & (some(highest_of + from, m) == seen));
        }
    memcpy(out, &sum, sizeof(float) * (size_t)m);
}

/* Maps x (N,H,W,C), their maxima best and the gradient of these up, both (N,rows,columns,C) -> the gradient of the maps
   out (N,H,W,C); share is room for as many numbers as up has. */
int32_t spikeproof_pool_spread(const struct window *g, int32_t threads, const float *x, const float *best,
                               const float *up, float *share, float *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < g->images * g->rows; line++) {
        const int64_t top = line % g->rows * g->step_down - g->above;
        const float *image = x + line / g->rows * g->height * g->width * g->channels;
        for (int64_t j = 0; j < g->columns; j++) {
            const int64_t left = j * g->step_across - g->before, at = (line * g->columns + j) * g->channels;
            for (int64_t c = 0; c < g->channels; c += LANES) {
                const int m = (int)least(LANES, g->channels - c);
                if (m == LANES)
                    divided(g, image, top, left, c, LANES, best + at + c, up + at + c, share + at + c);
                else
                    divided(g, image, top, left, c, m, best + at + c, up + at + c, share + at + c);
            }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < g->images * g->height; line++) {
        const int64_t image = line / g->height * g->rows * g->columns * g->channels;
        const struct holding rows = held(line % g->height + g->above, g->down, g->step_down, g->rows);
        for (int64_t z = 0; z < g->width; z++) {
            const struct holding columns = held(z + g->before, g->across, g->step_across, g->columns);
            const int64_t at = (line * g->width + z) * g->channels;
            for (int64_t c = 0; c < g->channels; c += LANES) {
                const int m = (int)least(LANES, g->channels - c);
                if (m == LANES)
                    shared_out(g, rows, columns, LANES, x + at + c, best + image + c, share + image + c, out + at + c);
                else
                    shared_out(g, rows, columns, m, x + at + c, best + image + c, share + image + c, out + at + c);
            }
        }
    }
    return 1;
}
