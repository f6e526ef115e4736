#include "parts.h"

#ifdef MODEL_WITH_LAYER_NORM
/* mean and r = 1 / sqrt(variance + 1e-5) of the values of one sample. A variance that overflows makes r a NaN. */
static float model_sample_mean(const float *x, int size, float *r)
{
    float mean = 0.0f, variance = 0.0f;
    for (int i = 0; i < size; i++) mean += x[i];
    mean /= (float)size;
    for (int i = 0; i < size; i++) variance += (x[i] - mean) * (x[i] - mean);
    variance /= (float)size;
    *r = 1.0f / sqrtf(variance + 1e-5f) + 0.0f * variance;
    return mean;
}

/* y = scale (x - mean) r + shift with the statistics of each sample. */
static void model_layer_norm(const model_layer *l, const model_state *state, model_work *work, const float *x, float *y, int n)
{
    const int c = l->oc, pixels = l->oh * l->ow, size = pixels * c;
    const float *scale = model_row(state, l->weight, l->array, c, work->row);
    const float *shift = model_row(state, l->bias, l->array + 1, c, work->row + MODEL_CHANNELS);
    for (int i = 0; i < n; i++, x += size, y += size) {
        float r;
        const float mean = model_sample_mean(x, size, &r);
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < c; o++) y[p * c + o] = scale[o] * ((x[p * c + o] - mean) * r) + shift[o];
    }
}

#ifdef MODEL_WITH_STEPS
/* dx = r (g - mean of g - x_hat mean of g x_hat), g = scale dy, over each sample; in the place of dy. */
static void model_layer_norm_back(const model_layer *l, model_state *state, model_work *work, const float *x, float *dy, int n,
                                  int step)
{
    const int c = l->oc, pixels = l->oh * l->ow, size = pixels * c;
    const float *scale = state->theta + (l->weight - MODEL_FIRST);
    float *sum = work->row, *slope = work->row + MODEL_CHANNELS;
    for (int o = 0; o < c; o++) sum[o] = slope[o] = 0.0f;
    for (int i = 0; i < n; i++, x += size, dy += size) {
        float r, level = 0.0f, turn = 0.0f;
        const float mean = model_sample_mean(x, size, &r);
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < c; o++) {
                const float hat = (x[p * c + o] - mean) * r, d = dy[p * c + o], g = scale[o] * d;
                sum[o] += d;
                slope[o] += d * hat;
                level += g;
                turn += g * hat;
            }
        level /= (float)size;
        turn /= (float)size;
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < c; o++) {
                const float hat = (x[p * c + o] - mean) * r;
                dy[p * c + o] = r * (scale[o] * dy[p * c + o] - level - hat * turn);
            }
    }
    model_descend(state, l->weight, l->array, slope, c, step);
    model_descend(state, l->bias, l->array + 1, sum, c, step);
}
#endif
#endif
