#include "parts.h"

#ifdef MODEL_WITH_NORM
/* Whose statistics a batch norm uses: those of the samples at hand, those kept in the state, or, for a number of at least
 * 0, that row of the running ones. */
enum { MODEL_OWN = -1, MODEL_HELD = -2 };

/* mean and r = 1 / sqrt(variance + 1e-5) of each of c channels. A variance that overflows makes r a NaN. */
static void model_measure(const float *x, int rows, int c, float *mean, float *r)
{
    for (int o = 0; o < c; o++) mean[o] = r[o] = 0.0f;
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) mean[o] += x[i * c + o];
    for (int o = 0; o < c; o++) mean[o] /= (float)rows;
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) {
            const float d = x[i * c + o] - mean[o];
            r[o] += d * d;
        }
    for (int o = 0; o < c; o++) {
        const float variance = r[o] / (float)rows;
        r[o] = 1.0f / sqrtf(variance + 1e-5f) + 0.0f * variance;
    }
}

/* y = scale (x - mean) r + shift; `held`, where it is wanted, gets a = scale r and b = shift - a mean. */
static void model_norm(const model_layer *l, const model_state *state, model_work *work, const float *x, float *y, int n,
                       int whose, float *held)
{
    const int c = l->oc, rows = n * l->oh * l->ow;
    float *mean = work->statistics + l->statistics, *r = mean + c;
    const float *scale = model_row(state, l->weight, l->array, c, work->row);
    const float *shift = model_row(state, l->bias, l->array + 1, c, work->row + MODEL_CHANNELS);
#ifdef MODEL_WITH_FIXED_NORMS
    if (whose == MODEL_HELD) {
        model_scaled(x, y, rows, c, state->norms + l->statistics, state->norms + l->statistics + c);
        return;
    }
#endif
#ifdef MODEL_WITH_RUNNING
    if (whose >= 0)
        memcpy(mean, model_running + whose * MODEL_STATISTICS + l->statistics, 2 * (unsigned)c * sizeof *mean);
    else
#endif
        model_measure(x, rows, c, mean, r);
    (void)whose;
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) y[i * c + o] = scale[o] * ((x[i * c + o] - mean[o]) * r[o]) + shift[o];
    if (held)
        for (int o = 0; o < c; o++) {
            held[l->statistics + o] = scale[o] * r[o];
            held[l->statistics + c + o] = shift[o] - scale[o] * r[o] * mean[o];
        }
}

#ifdef MODEL_WITH_STEPS
/* dx = scale r (dy - mean of dy - x_hat mean of dy x_hat), without the means where the statistics are given; in dy's place. */
static void model_norm_back(const model_layer *l, model_state *state, model_work *work, const float *x, float *dy, int n,
                            int step)
{
    const int c = l->oc, rows = n * l->oh * l->ow;
    const float *mean = work->statistics + l->statistics, *r = mean + c;
    const float *scale = state->theta + (l->weight - MODEL_FIRST);
    float *sum = work->row, *slope = work->row + MODEL_CHANNELS;
    for (int o = 0; o < c; o++) sum[o] = slope[o] = 0.0f;
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) {
            sum[o] += dy[i * c + o];
            slope[o] += dy[i * c + o] * ((x[i * c + o] - mean[o]) * r[o]);
        }
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) {
#ifdef MODEL_WITH_RUNNING
            dy[i * c + o] *= scale[o] * r[o];
#else
            const float hat = (x[i * c + o] - mean[o]) * r[o];
            const float less = sum[o] / (float)rows + hat * (slope[o] / (float)rows);
            dy[i * c + o] = scale[o] * r[o] * (dy[i * c + o] - less);
#endif
        }
#ifdef MODEL_WITH_STEP_NORMS
    (void)step;
#else
    model_descend(state, l->weight, l->array, slope, c, step);
    model_descend(state, l->bias, l->array + 1, sum, c, step);
#endif
}
#endif

#ifdef MODEL_WITH_STEP_NORMS
/* The scales and shifts that batch norm has before inner step `step`, in the order of the parameters. */
static void model_put_norms(model_state *state, int step)
{
    const float *from = model_step_norms + (step < MODEL_NORM_ROWS ? step : MODEL_NORM_ROWS - 1) * MODEL_NORM_VALUES;
    for (int i = 0; i < MODEL_LAYERS; i++) {
        const model_layer *l = &model_layers[i];
        if (l->kind != MODEL_NORM) continue;
        for (int o = 0; o < l->oc; o++) state->theta[l->weight + o - MODEL_FIRST] = *from++;
        for (int o = 0; o < l->oc; o++) state->theta[l->bias + o - MODEL_FIRST] = *from++;
    }
}
#endif

#ifdef MODEL_WITH_RUNNING
/* Slopes and shifts of the batch norms with a row of running statistics. */
static void model_hold_running(model_state *state, int row)
{
    for (int i = 0; i < MODEL_LAYERS; i++) {
        const model_layer *l = &model_layers[i];
        const float *mean = model_running + row * MODEL_STATISTICS + l->statistics, *r = mean + l->oc;
        if (l->kind != MODEL_NORM) continue;
        for (int o = 0; o < l->oc; o++) {
            const float slope = state->theta[l->weight + o - MODEL_FIRST] * r[o];
            state->norms[l->statistics + o] = slope;
            state->norms[l->statistics + l->oc + o] = state->theta[l->bias + o - MODEL_FIRST] - slope * mean[o];
        }
    }
}
#endif
#endif
