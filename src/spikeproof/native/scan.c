/* One spiking layer over all time steps, and its gradient: what neurons/_stepwise.py and rules/_fused.py say in torch.

   A tensor is T slabs of n floats; a slab is one time step of the whole layer, in any dense order that all tensors of a
   call share. Currents x are `apart` floats from one step to the next: n, or 0 where every step has the same ones.
   Neurons do not see each other, so a slab is cut into chunks that stay in cache over all steps, and chunks go to
   threads. Every operation is the one that torch does, in the same order (no contraction, true division): spikes are
   equal bit by bit.
*/
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Neurons at once: what a chunk keeps for all its steps should stay in the first-level cache. */
static int64_t chunk_of(int64_t steps)
{
    const int64_t fit = 4096 / steps / 64 * 64;
    return fit < 64 ? 64 : fit > 2048 ? 2048 : fit;
}
#define MOST 2048

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
static inline void fetch(const float *from, int m)
{
    for (int i = 0; i < m; i += 16) __builtin_prefetch(from + i);
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
static inline __attribute__((always_inline)) void step(const struct neuron *p, int m, const float *restrict x,
                                                       float *restrict v, float *restrict s, float *restrict h)
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

/* x (T,n) -> spikes s (T,n), and heights h (T,n) above the threshold where h is not NULL. Returns 0 where a membrane
   ends at NaN or infinity. */
int32_t spikeproof_forward(const struct neuron *p, int64_t steps, int64_t n, int32_t threads, int64_t apart,
                           const float *x, float *s, float *h)
{
    int32_t finite = 1;
    const int64_t chunk = chunk_of(steps);
#pragma omp parallel for num_threads(threads) reduction(&& : finite) schedule(static)
    for (int64_t from = 0; from < n; from += chunk) {
        float v[MOST];
        const int m = (int)(n - from < chunk ? n - from : chunk);
        for (int i = 0; i < m; i++) v[i] = p->v_rest;
        for (int64_t t = 0; t < steps; t++) {
            if (from + 2 * chunk <= n) fetch(x + t * apart + from + chunk, m);
            if (h)
                step(p, m, x + t * apart + from, v, s + t * n + from, h + t * n + from);
            else
                step(p, m, x + t * apart + from, v, s + t * n + from, NULL);
        }
        float sum = 0.0f; /* v - v is 0 for a finite number, else NaN */
        for (int i = 0; i < m; i++) sum += v[i] - v[i];
        finite = finite && sum == 0.0f;
    }
    return finite;
}

/* e^x for x <= 0, within 2 ulp: 2^k e^r, |r| <= ln 2 / 2, a polynomial of degree 6. Below the smallest normal number: 0. */
static inline float exp_negative(float x)
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

static void slopes(const struct surrogate *q, int m, const float *restrict h, float *restrict d)
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

/* Currents x and the gradient of the spikes up (T,n) -> the gradient of the currents out (T,n), by the recursion of
   rules/_fused.py. The membranes are computed again, chunk by chunk: that costs less than writing them down.
   Returns 0 where there is no memory. */
int32_t spikeproof_backward(const struct neuron *p, const struct surrogate *q, int64_t steps, int64_t n,
                            int32_t threads, int64_t apart, const float *x, const float *up, float *out)
{
    const float depth = p->v_threshold - p->v_reset, r = q->through_reset ? 1.0f : 0.0f;
    const float a = q->through_time ? q->a : 0.0f, b = q->b;
    const int64_t chunk = chunk_of(steps);
    int32_t enough = 1;
#pragma omp parallel num_threads(threads) reduction(&& : enough)
    {
        float *heights = malloc(sizeof(float) * (size_t)(steps * chunk));
        enough = heights != 0;
#pragma omp for schedule(static)
        for (int64_t from = 0; from < n; from += chunk) {
            if (!heights) continue;
            float v[MOST], s[MOST], d[MOST], next[MOST]; /* next: dL/du of the step after */
            const int m = (int)(n - from < chunk ? n - from : chunk);
            for (int i = 0; i < m; i++) v[i] = p->v_rest, next[i] = 0.0f;
            for (int64_t t = 0; t < steps; t++) {
                fetch(up + t * n + from, m);
                step(p, m, x + t * apart + from, v, s, heights + t * chunk);
            }
            for (int64_t t = steps - 1; t >= 0; t--) {
                const float *restrict h = heights + t * chunk, *restrict ut = up + t * n + from;
                float *restrict ot = out + t * n + from;
                if (from + 2 * chunk <= n) fetch(x + (steps - 1 - t) * apart + from + chunk, m);
                slopes(q, m, h, d);
                if (p->hard)
                    for (int i = 0; i < m; i++) {
                        const float kept = (h[i] < 0.0f ? 1.0f : 0.0f) - r * (h[i] + depth) * d[i];
                        next[i] = ut[i] * d[i] + a * kept * next[i];
                        ot[i] = b * next[i];
                    }
                else
                    for (int i = 0; i < m; i++) {
                        const float kept = 1.0f - r * p->v_threshold * d[i];
                        next[i] = ut[i] * d[i] + a * kept * next[i];
                        ot[i] = b * next[i];
                    }
            }
        }
        free(heights);
    }
    return enough;
}
