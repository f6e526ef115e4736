#include "parts.h"

void model_reset(model_state *state)
{
    memset(state, 0, sizeof *state);
    model_begin(state);
#ifdef MODEL_WITH_STEP_NORMS
    model_put_norms(state, 0);
#endif
#ifdef MODEL_WITH_RUNNING
    model_hold_running(state, 0);
#endif
#ifndef MODEL_WITH_MEASURING
    state->ready = 1;
#endif
}

/* The slope d of the mean loss by each output. */
#ifdef MODEL_WITH_LABELS
static void model_loss_slope(const float *outputs, const int32_t *y, int n, float *d)
{
    for (int i = 0; i < n; i++, outputs += MODEL_OUTPUTS, d += MODEL_OUTPUTS) {
        float top = outputs[0], sum = 0.0f;
        for (int k = 1; k < MODEL_OUTPUTS; k++)
            if (outputs[k] > top) top = outputs[k];
        for (int k = 0; k < MODEL_OUTPUTS; k++) {
            d[k] = model_exp(outputs[k] - top);
            sum += d[k];
        }
        for (int k = 0; k < MODEL_OUTPUTS; k++) d[k] = (d[k] / sum - (k == y[i] ? 1.0f : 0.0f)) / (float)n;
    }
}
#else
static void model_loss_slope(const float *outputs, const float *y, int n, float *d)
{
    for (int i = 0; i < n * MODEL_OUTPUTS; i++) d[i] = 2.0f * (outputs[i] - y[i]) / (float)(n * MODEL_OUTPUTS);
}
#endif

#ifdef MODEL_WITH_BODY
/* What enters the first layer that moves, of n samples; one at a time where no sample meets another. */
static void model_features(model_state *state, model_work *work, const float *x, int n)
{
    const int size = MODEL_FEATURES;
#ifdef MODEL_WITH_BODY_NORM
#ifdef MODEL_WITH_MEASURING
    const float *z = model_through(state, work, x, n, 0, MODEL_FIRST_LAYER, -1, state->norms);
#else
    const float *z = model_through(state, work, x, n, 0, MODEL_FIRST_LAYER, -1, 0);
#endif
    memcpy(work->features, z, (unsigned)(n * size) * sizeof *z);
#else
    for (int i = 0; i < n; i++) {
        const float *z = model_through(state, work, x + i * MODEL_INPUTS, 1, 0, MODEL_FIRST_LAYER, -1, 0);
        memcpy(work->features + i * size, z, (unsigned)size * sizeof *z);
    }
#endif
}
#endif

#ifdef MODEL_WITH_BATCHES
/* The samples of an inner step's mini-batch. */
#ifdef MODEL_WITH_LABELS
static void model_take(model_work *work, const float *x, const int32_t *y, int step)
#else
static void model_take(model_work *work, const float *x, const float *y, int step)
#endif
{
    for (int i = 0; i < MODEL_BATCH; i++) {
        const int from = model_batches[step * MODEL_BATCH + i];
        memcpy(work->batch + i * MODEL_FEATURES, x + from * MODEL_FEATURES, MODEL_FEATURES * sizeof *x);
#ifdef MODEL_WITH_LABELS
        work->batch_y[i] = y[from];
#else
        memcpy(work->batch_y + i * MODEL_OUTPUTS, y + from * MODEL_OUTPUTS, MODEL_OUTPUTS * sizeof *y);
#endif
    }
}
#endif

static model_status model_fails(model_state *state)
{
    model_reset(state);
    return MODEL_NOT_FINITE;
}

#ifdef MODEL_WITH_LABELS
model_status model_adapt(model_state *state, model_work *work, const float *x, const int32_t *y, int n, int steps)
#else
model_status model_adapt(model_state *state, model_work *work, const float *x, const float *y, int n, int steps)
#endif
{
    const float *from = x;
    if (n < 1 || n > MODEL_SAMPLES || steps < 0 || steps > MODEL_MOST_STEPS) return MODEL_BAD_COUNT;
#ifdef MODEL_WITH_BATCHES
    if (n > MODEL_BATCH && n != MODEL_SAMPLES) return MODEL_BAD_COUNT;
#endif
#ifdef MODEL_WITH_LABELS
    for (int i = 0; i < n; i++)
        if (y[i] < 0 || y[i] >= MODEL_OUTPUTS) return MODEL_BAD_LABEL;
#endif
    model_reset(state);
    if (!model_all_finite(x, n * MODEL_INPUTS)) return MODEL_NOT_FINITE;
#ifndef MODEL_WITH_LABELS
    if (!model_all_finite(y, n * MODEL_OUTPUTS)) return MODEL_NOT_FINITE;
#endif
#ifdef MODEL_WITH_BODY
    model_features(state, work, x, n);
    from = work->features;
#endif
    for (int step = 0; step < steps; step++) {
        int count = n, whose = -1;
        const float *sx = from;
#ifdef MODEL_WITH_LABELS
        const int32_t *sy = y;
#else
        const float *sy = y;
#endif
#ifdef MODEL_WITH_BATCHES
        if (n > MODEL_BATCH) {
            model_take(work, from, y, step);
            sx = work->batch;
            sy = work->batch_y;
            count = MODEL_BATCH;
        }
#endif
#ifdef MODEL_WITH_STEP_NORMS
        model_put_norms(state, step);
#endif
#ifdef MODEL_WITH_RUNNING
        whose = step < MODEL_NORM_ROWS ? step : MODEL_NORM_ROWS - 1;
#endif
        const float *outputs = model_keep(state, work, sx, count, whose);
        if (!model_all_finite(outputs, count * MODEL_OUTPUTS)) return model_fails(state);
        model_loss_slope(outputs, sy, count, work->one);
        model_back(state, work, sx, count, step);
    }
#ifdef MODEL_WITH_STEP_NORMS
    model_put_norms(state, steps);
#endif
#ifdef MODEL_WITH_RUNNING
    model_hold_running(state, steps < MODEL_NORM_ROWS ? steps : MODEL_NORM_ROWS - 1);
#endif
#ifdef MODEL_WITH_MOVING_NORM
    model_through(state, work, from, n, MODEL_FIRST_LAYER, MODEL_LAYERS, -1, state->norms);
#endif
    if (!model_all_finite(state->theta, MODEL_ADAPTED)) return model_fails(state);
#ifdef MODEL_WITH_FIXED_NORMS
    if (!model_all_finite(state->norms, MODEL_NORMS)) return model_fails(state);
#endif
    state->ready = 1;
    return MODEL_OK;
}

model_status model_predict(const model_state *state, model_work *work, const float *x, int n, float *outputs)
{
    int finite = 1;
#ifdef MODEL_WITH_TOGETHER
    const int at_once = n;
    if (n > MODEL_QUERIES) return MODEL_BAD_COUNT;
#else
    const int at_once = 1;
#endif
    if (n < 1) return MODEL_BAD_COUNT;
    if (!state->ready) return MODEL_NOT_READY;
    for (int i = 0; i < n; i += at_once) {
        finite &= model_all_finite(x, at_once * MODEL_INPUTS);
#ifdef MODEL_WITH_FIXED_NORMS
        const float *found = model_through(state, work, x, at_once, 0, MODEL_LAYERS, MODEL_HELD, 0);
#else
        const float *found = model_through(state, work, x, at_once, 0, MODEL_LAYERS, -1, 0);
#endif
        finite &= model_all_finite(found, at_once * MODEL_OUTPUTS);
        memcpy(outputs, found, (unsigned)(at_once * MODEL_OUTPUTS) * sizeof *found);
        x += at_once * MODEL_INPUTS;
        outputs += at_once * MODEL_OUTPUTS;
    }
    return finite ? MODEL_OK : MODEL_NOT_FINITE;
}
