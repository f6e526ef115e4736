#include "parts.h"

#ifdef MODEL_WITH_SCALED
/* y = scale x + shift of each of c channels. */
static void model_scaled(const float *x, float *y, int rows, int c, const float *scale, const float *shift)
{
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) y[i * c + o] = scale[o] * x[i * c + o] + shift[o];
}
#endif

#ifdef MODEL_WITH_AFFINE
static void model_affine(const model_layer *l, const model_state *state, model_work *work, const float *x, float *y, int n)
{
    const float *scale = model_row(state, l->weight, l->array, l->oc, work->row);
    const float *shift = model_row(state, l->bias, l->array + 1, l->oc, work->row + MODEL_CHANNELS);
    model_scaled(x, y, n * l->oh * l->ow, l->oc, scale, shift);
}

#ifdef MODEL_WITH_STEPS
/* dx = scale dy, in the place of dy. */
static void model_affine_back(const model_layer *l, model_state *state, model_work *work, const float *x, float *dy, int n,
                              int step)
{
    const int c = l->oc, rows = n * l->oh * l->ow;
    const float *scale = state->theta + (l->weight - MODEL_FIRST);
    float *sum = work->row, *slope = work->row + MODEL_CHANNELS;
    for (int o = 0; o < c; o++) sum[o] = slope[o] = 0.0f;
    for (int i = 0; i < rows; i++)
        for (int o = 0; o < c; o++) {
            sum[o] += dy[i * c + o];
            slope[o] += dy[i * c + o] * x[i * c + o];
            dy[i * c + o] *= scale[o];
        }
    model_descend(state, l->weight, l->array, slope, c, step);
    model_descend(state, l->bias, l->array + 1, sum, c, step);
}
#endif
#endif
