/* One spiking layer over all time steps, and its gradient: what neurons/_stepwise.py and rules/_fused.py say in torch.

   A tensor is T slabs of n floats; a slab is one time step of the whole layer, in any dense order that all tensors of a
   call share. Currents x are `apart` floats from one step to the next: n, or 0 where every step has the same ones.
   Neurons do not see each other, so a slab is cut into chunks that stay in cache over all steps, and chunks go to
   threads. Every operation is the one that torch does, in the same order (no contraction, true division): spikes are
   equal bit by bit.
*/
#include <math.h>

#include "vectors.h"

#define CHUNK 128 /* neurons at once: what is kept of them over all steps stays in the nearest caches */

enum charge { ADD, LEAK_DIV, LEAK_DIV_INPUT, LEAK_MUL, LEAK_MUL_INPUT };
enum kind { ATAN, SIGMOID, TRIANGLE, RECTANGLE, GAUSSIAN };

struct neuron {
    int32_t charge, hard; /* hard: reset to v_reset, else v_threshold is subtracted */
    float leak, v_threshold, v_reset, v_rest;
};

struct surrogate {
    int32_t kind, through_time, through_reset;
    float alpha, a, b; /* a, b: du/dv and du/dx of the charge */
};

/* m floats into the cache, before they are needed: the stretches of a chunk are too short for the processor to see them
   coming, and lie far apart. */
ALWAYS void fetch(const float *from, int m)
{
    for (int i = 0; i < m; i += 16) __builtin_prefetch(from + i);
}

/* m floats to where they belong, `past` the caches or not; m is a multiple of LANES then. */
ALWAYS void put_all(float *restrict to, const float *restrict from, int m, int past)
{
    if (past)
        for (int i = 0; i < m; i += LANES) put(to + i, read(from + i), past);
    else
        memcpy(to, from, sizeof(float) * (size_t)m);
}

/* One step of m neurons in one pass over memory: charge, fire, reset. */
#define STEP(CHARGED, SETTLED)                                                                                         \
    for (int i = 0; i < m; i++) {                                                                                      \
        const float u = CHARGED, height = u - threshold, spike = height >= 0.0f ? 1.0f : 0.0f;                         \
        v[i] = SETTLED;                                                                                                \
        s[i] = spike;                                                                                                  \
        if (h) h[i] = height;                                                                                          \
    }

#define RESETS(CHARGED)                                                                                                \
    if (!p->hard)                                                                                                      \
        STEP(CHARGED, u - threshold * spike)                                                                           \
    else if (reset == 0.0f)                                                                                            \
        STEP(CHARGED, (1.0f - spike) * u)                                                                              \
    else                                                                                                               \
        STEP(CHARGED, (1.0f - spike) * u + reset * spike)

/* Currents x and membranes v -> spikes s, membranes after the reset v, and heights above the threshold h, if not NULL:
   a constant where this is called, so that each form has loops of its own. */
ALWAYS void step(const struct neuron *p, int m, const float *restrict x, float *restrict v, float *restrict s,
                 float *restrict h)
{
    const float threshold = p->v_threshold, reset = p->v_reset, k = p->leak, rest = p->v_rest;
    switch (p->charge) {
    case ADD:
        RESETS(v[i] + x[i])
        break;
    case LEAK_DIV:
        RESETS(v[i] + (x[i] - (v[i] - rest)) / k)
        break;
    case LEAK_DIV_INPUT:
        RESETS(v[i] - (v[i] - rest) / k + x[i])
        break;
    case LEAK_MUL:
        RESETS(v[i] + (x[i] - (v[i] - rest)) * k)
        break;
    default:
        RESETS(v[i] - (v[i] - rest) * k + x[i])
    }
}

/* A chunk of m neurons over all steps -> whether every membrane ends at a finite number. ahead: there is another chunk
   behind it. */
ALWAYS int forth(const struct neuron *p, int64_t steps, int64_t n, int m, int64_t apart, const float *x, float *s, float *h,
                 int past, int ahead)
{
    float v[CHUNK], spikes[CHUNK], heights[CHUNK], sum = 0.0f;
    for (int i = 0; i < m; i++) v[i] = p->v_rest;
    for (int64_t t = 0; t < steps; t++) {
        if (ahead) fetch(x + t * apart + CHUNK, m);
        step(p, m, x + t * apart, v, spikes, h ? heights : NULL);
        put_all(s + t * n, spikes, m, past);
        if (h) put_all(h + t * n, heights, m, past);
    }
    for (int i = 0; i < m; i++) sum += v[i] - v[i]; /* 0 for a finite number, else NaN */
    return sum == 0.0f;
}

/* x (T,n) -> spikes s (T,n), and heights h (T,n) above the threshold where h is not NULL. Returns 0 where a membrane
   ends at NaN or infinity. */
int32_t spikeproof_forward(const struct neuron *p, int64_t steps, int64_t n, int32_t threads, int64_t apart,
                           const float *x, float *s, float *h)
{
    const int past = past_caches(steps * n, n, s) && past_caches(steps * n, n, h ? h : s);
    int32_t finite = 1;
#pragma omp parallel num_threads(threads) reduction(&& : finite)
    {
#pragma omp for schedule(static)
        for (int64_t from = 0; from < n; from += CHUNK) {
            const int m = (int)least(CHUNK, n - from), ahead = from + 2 * CHUNK <= n;
            float *const above = h ? h + from : NULL;
            int ends;
            if (h)
                ends = forth(p, steps, n, m, apart, x + from, s + from, above, past, ahead);
            else
                ends = forth(p, steps, n, m, apart, x + from, s + from, NULL, past, ahead);
            finite = finite && ends;
        }
        settle(past);
    }
    return finite;
}

/* e^x for x <= 0, within 2 ulp: 2^k e^r, |r| <= ln 2 / 2, a polynomial of degree 6. Below the smallest normal number: 0. */
ALWAYS float exp_negative(float x)
{
    const float low = x < -87.0f ? -87.0f : x;
    const float k = rintf(low * 1.44269504f);
    const float r = (low - k * 0.693359375f) + k * 2.12194440e-4f;
    float e = 1.38888889e-3f;
    e = e * r + 8.33333333e-3f;
    e = e * r + 4.16666667e-2f;
    e = e * r + 1.66666667e-1f;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    const int32_t bits = ((int32_t)k + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : e * power;
}

ALWAYS void slopes(const struct surrogate *q, int m, const float *restrict h, float *restrict d)
{
    const float alpha = q->alpha;
    switch (q->kind) {
    case ATAN: {
        const float k = 1.57079632679f * alpha, top = alpha / 2.0f;
        for (int i = 0; i < m; i++) d[i] = top / (1.0f + (h[i] * k) * (h[i] * k));
        break;
    }
    case SIGMOID:
        for (int i = 0; i < m; i++) {
            const float e = exp_negative(-fabsf(alpha * h[i]));
            d[i] = alpha * e / ((1.0f + e) * (1.0f + e));
        }
        break;
    case TRIANGLE:
        for (int i = 0; i < m; i++) {
            const float left = 1.0f - alpha * fabsf(h[i]);
            d[i] = left > 0.0f ? alpha * left : 0.0f;
        }
        break;
    case RECTANGLE:
        for (int i = 0; i < m; i++) d[i] = fabsf(alpha * h[i]) < 1.0f ? alpha / 2.0f : 0.0f;
        break;
    default: {
        const float top = alpha * 0.398942280401f;
        for (int i = 0; i < m; i++) d[i] = top * exp_negative(-0.5f * (alpha * h[i]) * (alpha * h[i]));
    }
    }
}

/* A chunk of m neurons: the membranes over all steps, and back. */
ALWAYS void back(const struct neuron *p, const struct surrogate *q, int64_t steps, int64_t n, int m, int64_t apart,
                 const float *x, const float *up, float *out, float *heights, int past, int ahead)
{
    const float depth = p->v_threshold - p->v_reset, r = q->through_reset ? 1.0f : 0.0f;
    const float a = q->through_time ? q->a : 0.0f, b = q->b;
    float v[CHUNK], s[CHUNK], d[CHUNK], next[CHUNK], made[CHUNK]; /* next: dL/du of the step after */
    for (int i = 0; i < m; i++) v[i] = p->v_rest, next[i] = 0.0f;
    for (int64_t t = 0; t < steps; t++) {
        fetch(up + t * n, m);
        step(p, m, x + t * apart, v, s, heights + t * CHUNK);
    }
    for (int64_t t = steps - 1; t >= 0; t--) {
        const float *restrict h = heights + t * CHUNK, *restrict ut = up + t * n;
        if (ahead) fetch(x + (steps - 1 - t) * apart + CHUNK, m);
        slopes(q, m, h, d);
        if (p->hard)
            for (int i = 0; i < m; i++) {
                const float kept = (h[i] < 0.0f ? 1.0f : 0.0f) - r * (h[i] + depth) * d[i];
                next[i] = ut[i] * d[i] + a * kept * next[i];
                made[i] = b * next[i];
            }
        else
            for (int i = 0; i < m; i++) {
                const float kept = 1.0f - r * p->v_threshold * d[i];
                next[i] = ut[i] * d[i] + a * kept * next[i];
                made[i] = b * next[i];
            }
        put_all(out + t * n, made, m, past);
    }
}

/* Currents x and the gradient of the spikes up (T,n) -> the gradient of the currents out (T,n), by the recursion of
   rules/_fused.py. The membranes are computed again, chunk by chunk: that costs less than writing them down.
   Returns 0 where there is no memory. */
int32_t spikeproof_backward(const struct neuron *p, const struct surrogate *q, int64_t steps, int64_t n,
                            int32_t threads, int64_t apart, const float *x, const float *up, float *out)
{
    const int past = past_caches(steps * n, n, out);
    int32_t enough = 1;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
    {
        float *heights = malloc(sizeof(float) * (size_t)(steps * CHUNK));
        enough = heights != 0;
#pragma omp for schedule(static)
        for (int64_t from = 0; from < n; from += CHUNK) {
            const int m = (int)least(CHUNK, n - from), ahead = from + 2 * CHUNK <= n;
            if (!heights) continue;
            back(p, q, steps, n, m, apart, x + from, up + from, out + from, heights, past, ahead);
        }
        free(heights);
        settle(past);
    }
    return enough;
}
