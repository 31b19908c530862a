/* The sizes of a convolution: of its maps, of its kernel, steps and the zeros before the maps, and of its results. */
#ifndef SPIKEPROOF_CONVOLUTION
#define SPIKEPROOF_CONVOLUTION

#include "vectors.h"

struct convolution {
    int64_t images, height, width, channels;
    int64_t tall, broad, stride_down, stride_across, top, left;
    int64_t down, across, results;
};

#endif
