/* @title */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* @sizes: an example, so that this file is C by itself */
#define MODEL_HASH 0x00000000u
enum {
    MODEL_INPUTS = 2,
    MODEL_OUTPUTS = 2,
    MODEL_SAMPLES = 4,
    MODEL_QUERIES = 4,
    MODEL_STEPS = 1,
    MODEL_MOST_STEPS = 10,
    MODEL_ADAPTED = 6,
    MODEL_NORMS = 4,
    MODEL_KEPT = 8,
    MODEL_TURN = 8,
    MODEL_FEATURES = 2,
    MODEL_STATISTICS = 4,
    MODEL_CHANNELS = 2,
    MODEL_BATCH = 2,
    MODEL_SAVED = 64
};
/* @end */

typedef enum {
    MODEL_OK,
    MODEL_BAD_COUNT,  /* too few or too many samples or steps; the state is untouched */
    MODEL_BAD_LABEL,  /* a label that is not 0 .. OUTPUTS - 1; the state is untouched */
    MODEL_NOT_FINITE, /* a NaN, an infinity, or divergence; the state is as after reset */
    MODEL_NOT_READY,  /* predict needs an adapt before it */
    MODEL_BAD_BYTES   /* not what save wrote for this model; the state is untouched */
} model_status;

/* What a task taught. Plain values: it may be copied, and lie where you like. */
typedef struct {
    uint32_t ready;
#ifdef MODEL_WITH_STEPS
    float theta[MODEL_ADAPTED]; /* parameters that inner steps move */
#endif
#ifdef MODEL_WITH_FIXED_NORMS
    float norms[MODEL_NORMS]; /* a batch norm's slopes a and shifts b, once its statistics are known: y = a x + b */
#endif
#ifdef MODEL_WITH_PROTOTYPES
    float sums[MODEL_OUTPUTS * MODEL_FEATURES]; /* of each class's embeddings */
    uint32_t counts[MODEL_OUTPUTS];
#endif
} model_state;

/* Scratch of a call, free between calls. One for each thread. */
typedef struct {
#ifdef MODEL_WITH_STEPS
    float kept[MODEL_KEPT]; /* values of each layer, for the way back */
#endif
    float one[MODEL_TURN], other[MODEL_TURN];
#ifdef MODEL_WITH_BODY
    float features[MODEL_SAMPLES * MODEL_FEATURES]; /* behind the layers that no step moves */
#endif
#ifdef MODEL_WITH_BATCHES
    float batch[MODEL_BATCH * MODEL_FEATURES];
#ifdef MODEL_WITH_LABELS
    int32_t batch_y[MODEL_BATCH];
#else
    float batch_y[MODEL_BATCH * MODEL_OUTPUTS];
#endif
#endif
#ifdef MODEL_WITH_NORM
    float statistics[MODEL_STATISTICS]; /* mean and 1 / deviation of each channel of each batch norm */
#endif
    float row[2 * MODEL_CHANNELS];
#ifdef MODEL_WITH_BYTES
    float unpacked[MODEL_CHANNELS];
#endif
} model_work;

/* No pointer may be NULL, and no array may overlap another one or the work. */

/* Forgets the task. */
void model_reset(model_state *state);

#ifdef MODEL_WITH_STEPS
/* Learns a task from n samples x (n, INPUTS), by `steps` of gradient descent from the learned initialisation. */
#ifdef MODEL_WITH_LABELS
/* y (n): labels 0 .. OUTPUTS - 1. */
model_status model_adapt(model_state *state, model_work *work, const float *x, const int32_t *y, int n, int steps);
#else
/* y (n, OUTPUTS): targets. */
model_status model_adapt(model_state *state, model_work *work, const float *x, const float *y, int n, int steps);
#endif
#endif
#ifdef MODEL_WITH_PROTOTYPES
/* Learns the classes of n samples x (n, INPUTS) with labels y (n) in 0 .. OUTPUTS - 1. */
model_status model_adapt(model_state *state, model_work *work, const float *x, const int32_t *y, int n);
#ifndef MODEL_WITH_NORM
/* Learns one more sample x (INPUTS) of class `label`; after reset, or adapt. */
model_status model_add(model_state *state, model_work *work, const float *x, int32_t label);
#endif
#endif

#ifdef MODEL_WITH_TOGETHER
/* Outputs (n, OUTPUTS) of x (n, INPUTS), n at most QUERIES: batch norm uses the statistics of these n samples. */
#else
/* Outputs (n, OUTPUTS) of x (n, INPUTS); a sample's are the same alone and among others. */
#endif
#ifdef MODEL_WITH_PROTOTYPES
/* A class without samples has -FLT_MAX. */
#endif
model_status model_predict(const model_state *state, model_work *work, const float *x, int n, float *outputs);

/* The state as SAVED bytes, the same on every machine, with the model's hash and a CRC-32. */
void model_save(const model_state *state, unsigned char *bytes);
model_status model_restore(model_state *state, const unsigned char *bytes, uint32_t size);

/* For bindings: bytes of a state and of a work, SAVED, HASH. */
extern const uint32_t model_sizes[4];

#ifndef MODEL_NO_TEST
/* Adapts to made-up samples: the worst difference from fastmeta's float64 outputs over the largest of them (at least 1),
 * or -1. Forgets the task; the only function that writes to static memory. */
float model_self_test(model_state *state, model_work *work);
#endif

#ifdef __cplusplus
}
#endif
#endif
