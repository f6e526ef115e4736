/* What the other files share: in a written model it stands at the top of its source file. */
#ifndef PARTS_H
#define PARTS_H

#include "model.h"

#ifdef MODEL_WITH_PROTOTYPES
#include <float.h>
#endif
#ifdef MODEL_WITH_SQRT
#include <math.h>
#endif
#include <string.h>

#ifdef __FAST_MATH__
#error "-ffast-math lets NaN pass for numbers: compile this file without it"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

enum {
    MODEL_PRODUCT,
    MODEL_NORM,
    MODEL_AFFINE,
    MODEL_LAYER_NORM,
    MODEL_RELU,
    MODEL_TANH,
    MODEL_SOFTPLUS,
    MODEL_MAX_POOL,
    MODEL_MEAN_POOL
};

/* weight, bias: places in the parameters, -1 where there is none; array: which parameter array the weight is;
 * x, y: places of its input and output among the values of a sample, x = -1: what goes in from outside. */
typedef struct {
    int32_t kind, ih, iw, ic, oh, ow, oc, kernel, stride, padding, weight, bias, array, x, y, statistics;
} model_layer;

/* @data: an example, so that these files are C by themselves */
enum {
    MODEL_LAYERS = 1,
    MODEL_FIRST_LAYER = 0,
    MODEL_FIRST = 0,
    MODEL_ARRAYS = 2,
    MODEL_PARAMETERS = 6,
    MODEL_RATE_ROWS = 1,
    MODEL_NORM_ROWS = 2,
    MODEL_NORM_VALUES = 4,
    MODEL_TEST_QUERIES = 1
};
static const model_layer model_layers[] = {
    {MODEL_PRODUCT, 1, 1, 2, 1, 1, 2, 1, 1, 0, 0, 4, 0, -1, 0, 0},
};
#ifdef MODEL_WITH_BYTES
static const signed char model_stored[] = {1, 2, 3, 4, 5, 6};
static const float model_scales[] = {0.1f, 0.1f};
static const int32_t model_edges[] = {0, 4, 6};
#else
static const float model_stored[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f};
#endif
#ifdef MODEL_WITH_STEPS
static const float model_rates[] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f};
#endif
#ifdef MODEL_WITH_STEP_NORMS
static const float model_step_norms[] = {1.0f, 1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 0.0f, 0.0f};
#endif
#ifdef MODEL_WITH_RUNNING
static const float model_running[] = {0.0f, 0.0f, 1.0f, 1.0f, 0.0f, 0.0f, 1.0f, 1.0f};
#endif
#ifdef MODEL_WITH_BATCHES
static const uint16_t model_batches[] = {0, 1, 2, 3};
#endif
#ifdef MODEL_WITH_PROXIMAL
static const float model_pull = 0.1f;
#endif
#ifdef MODEL_WITH_PROTOTYPES
static const float model_scale = 10.0f;
#endif
static const uint32_t model_test_seed = 1u;
static const float model_test_scale = 1.0f;
static const float model_test_outputs[] = {0.0f, 0.0f};
/* @end */

#endif
