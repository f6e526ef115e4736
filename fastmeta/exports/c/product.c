#include "parts.h"

#ifdef MODEL_WITH_PRODUCT
/* y[p] = b + sum over taps and channels of x w, by rows of `oc` outputs. A linear layer is a convolution of 1 x 1. */
static void model_product(const model_layer *l, const model_state *state, model_work *work, const float *x, float *y, int n)
{
    const int oc = l->oc, ic = l->ic;
    const float *b = l->bias < 0 ? 0 : model_row(state, l->bias, l->array + 1, oc, work->row);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < l->oh; r++)
            for (int q = 0; q < l->ow; q++, y += oc) {
                for (int o = 0; o < oc; o++) y[o] = b ? b[o] : 0.0f;
                for (int t = 0; t < l->kernel * l->kernel; t++) {
                    const int h = r * l->stride + t / l->kernel - l->padding;
                    const int v = q * l->stride + t % l->kernel - l->padding;
                    if (h < 0 || h >= l->ih || v < 0 || v >= l->iw) continue;
                    const float *from = x + ((i * l->ih + h) * l->iw + v) * ic;
#ifdef MODEL_WITH_BYTES
                    for (int c = 0; c < ic; c++) {
                        const float *w = model_row(state, l->weight + (t * ic + c) * oc, l->array, oc, work->unpacked);
                        for (int o = 0; o < oc; o++) y[o] += from[c] * w[o];
                    }
#else
                    const float *w = model_row(state, l->weight + t * ic * oc, l->array, ic * oc, 0);
                    int left = ic;
                    for (; left >= 4; left -= 4, from += 4, w += 4 * oc) /* y is read and written once for four */
                        for (int o = 0; o < oc; o++)
                            y[o] = y[o] + from[0] * w[o] + from[1] * w[oc + o] + from[2] * w[2 * oc + o] + from[3] * w[3 * oc + o];
                    for (; left > 0; left--, from++, w += oc)
                        for (int o = 0; o < oc; o++) y[o] += from[0] * w[o];
#endif
                }
            }
}

#ifdef MODEL_WITH_STEPS
/* dx[p] = sum over taps and outputs of dy w. */
static void model_product_dx(const model_layer *l, const model_state *state, model_work *work, const float *dy, float *dx, int n)
{
    const int oc = l->oc, ic = l->ic;
#ifdef MODEL_WITH_BYTES
    float *room = work->unpacked;
#else
    float *room = 0;
#endif
    (void)work;
    for (int i = 0; i < n * l->ih * l->iw * ic; i++) dx[i] = 0.0f;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < l->oh; r++)
            for (int q = 0; q < l->ow; q++, dy += oc)
                for (int t = 0; t < l->kernel * l->kernel; t++) {
                    const int h = r * l->stride + t / l->kernel - l->padding;
                    const int v = q * l->stride + t % l->kernel - l->padding;
                    if (h < 0 || h >= l->ih || v < 0 || v >= l->iw) continue;
                    float *to = dx + ((i * l->ih + h) * l->iw + v) * ic;
                    for (int c = 0; c < ic; c++)
                        to[c] += model_dot(dy, model_row(state, l->weight + (t * ic + c) * oc, l->array, oc, room), oc);
                }
}

/* dx where it is wanted, with the weights as they are; then the inner step, a row of dw at a time. */
static void model_product_back(const model_layer *l, model_state *state, model_work *work, const float *x, const float *dy,
                               float *dx, int n, int step)
{
    const int oc = l->oc, ic = l->ic;
    float *row = work->row;
    if (dx) model_product_dx(l, state, work, dy, dx, n);
    for (int t = 0; t < l->kernel * l->kernel; t++)
        for (int c = 0; c < ic; c++) {
            for (int o = 0; o < oc; o++) row[o] = 0.0f;
            for (int i = 0; i < n; i++)
                for (int r = 0; r < l->oh; r++) {
                    const int h = r * l->stride + t / l->kernel - l->padding;
                    if (h < 0 || h >= l->ih) continue;
                    for (int q = 0; q < l->ow; q++) {
                        const int v = q * l->stride + t % l->kernel - l->padding;
                        if (v < 0 || v >= l->iw) continue;
                        const float s = x[((i * l->ih + h) * l->iw + v) * ic + c];
                        const float *d = dy + ((i * l->oh + r) * l->ow + q) * oc;
                        for (int o = 0; o < oc; o++) row[o] += s * d[o];
                    }
                }
            model_descend(state, l->weight + (t * ic + c) * oc, l->array, row, oc, step);
        }
    if (l->bias < 0) return;
    for (int o = 0; o < oc; o++) row[o] = 0.0f;
    for (int i = 0; i < n * l->oh * l->ow; i++)
        for (int o = 0; o < oc; o++) row[o] += dy[i * oc + o];
    model_descend(state, l->bias, l->array + 1, row, oc, step);
}
#endif
#endif
