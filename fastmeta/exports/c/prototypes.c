#include "parts.h"

#ifdef MODEL_WITH_NORM
enum { MODEL_EMBEDDING = MODEL_HELD };
#else
enum { MODEL_EMBEDDING = -1 };
#endif

void model_reset(model_state *state)
{
    memset(state, 0, sizeof *state);
}

/* 1 / length of z (FEATURES), or 0 of a zero vector. */
#ifdef MODEL_WITH_LENGTHS
static float model_per_length(const float *z)
{
    const float square = model_dot(z, z, MODEL_FEATURES);
    return square == 0.0f ? 0.0f : 1.0f / sqrtf(square) + 0.0f * square;
}
#endif

/* Adds an embedding to its class; 0 where it is not finite. */
static int model_count(model_state *state, const float *z, int32_t label)
{
    float *sum = state->sums + label * MODEL_FEATURES;
#ifdef MODEL_WITH_UNIT_LENGTH
    const float per_length = model_per_length(z);
#else
    const float per_length = 1.0f;
#endif
    for (int k = 0; k < MODEL_FEATURES; k++) sum[k] += z[k] * per_length;
    state->counts[label]++;
    return model_all_finite(sum, MODEL_FEATURES);
}

#ifndef MODEL_WITH_NORM
model_status model_add(model_state *state, model_work *work, const float *x, int32_t label)
{
    if (label < 0 || label >= MODEL_OUTPUTS) return MODEL_BAD_LABEL;
    if (model_all_finite(x, MODEL_INPUTS) &&
        model_count(state, model_through(state, work, x, 1, 0, MODEL_LAYERS, -1, 0), label)) {
        state->ready = 1;
        return MODEL_OK;
    }
    model_reset(state);
    return MODEL_NOT_FINITE;
}
#endif

model_status model_adapt(model_state *state, model_work *work, const float *x, const int32_t *y, int n)
{
    if (n < 1 || n > MODEL_SAMPLES) return MODEL_BAD_COUNT;
    for (int i = 0; i < n; i++)
        if (y[i] < 0 || y[i] >= MODEL_OUTPUTS) return MODEL_BAD_LABEL;
    model_reset(state);
#ifdef MODEL_WITH_NORM
    int finite = model_all_finite(x, n * MODEL_INPUTS);
    const float *z = model_through(state, work, x, n, 0, MODEL_LAYERS, MODEL_OWN, state->norms);
    for (int i = 0; i < n; i++) finite &= model_count(state, z + i * MODEL_FEATURES, y[i]);
    if (!finite || !model_all_finite(state->norms, MODEL_NORMS)) {
        model_reset(state);
        return MODEL_NOT_FINITE;
    }
    state->ready = 1;
#else
    for (int i = 0; i < n; i++) {
        const model_status status = model_add(state, work, x + i * MODEL_INPUTS, y[i]);
        if (status != MODEL_OK) return status;
    }
#endif
    return MODEL_OK;
}

/* How similar an embedding is to the mean of class k. */
static float model_similarity(const model_state *state, const float *z, int k)
{
    const float *sum = state->sums + k * MODEL_FEATURES, count = (float)state->counts[k];
    if (state->counts[k] == 0) return -FLT_MAX;
#ifdef MODEL_WITH_EUCLIDEAN
    float found = 0.0f;
    for (int i = 0; i < MODEL_FEATURES; i++) {
        const float d = z[i] - sum[i] / count;
        found -= d * d;
    }
    return found;
#endif
#ifdef MODEL_WITH_COSINE
    (void)count;
    return model_scale * (model_dot(z, sum, MODEL_FEATURES) * model_per_length(z) * model_per_length(sum));
#endif
#ifdef MODEL_WITH_UNIT_LENGTH
    const float along = model_dot(z, sum, MODEL_FEATURES) * model_per_length(z) / count;
    return 2.0f * along - model_dot(sum, sum, MODEL_FEATURES) / count / count;
#endif
}

model_status model_predict(const model_state *state, model_work *work, const float *x, int n, float *outputs)
{
    int finite = 1;
    if (n < 1) return MODEL_BAD_COUNT;
    if (!state->ready) return MODEL_NOT_READY;
    for (int i = 0; i < n; i++, x += MODEL_INPUTS, outputs += MODEL_OUTPUTS) {
        const float *z = model_through(state, work, x, 1, 0, MODEL_LAYERS, MODEL_EMBEDDING, 0);
        finite &= model_all_finite(x, MODEL_INPUTS);
        for (int k = 0; k < MODEL_OUTPUTS; k++) outputs[k] = model_similarity(state, z, k);
        finite &= model_all_finite(outputs, MODEL_OUTPUTS);
    }
    return finite ? MODEL_OK : MODEL_NOT_FINITE;
}
