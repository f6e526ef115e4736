#include "parts.h"

#ifdef MODEL_WITH_MAX_POOL
/* The place of the first largest value of a window; a NaN wins. */
static int model_first_best(const model_layer *l, const float *x, int i, int r, int q, int c)
{
    int best = -1;
    for (int t = 0; t < l->kernel * l->kernel; t++) {
        const int h = r * l->kernel + t / l->kernel, v = q * l->kernel + t % l->kernel;
        const int at = ((i * l->ih + h) * l->iw + v) * l->ic + c;
        if (best < 0 || x[at] > x[best] || x[at] != x[at]) best = at;
    }
    return best;
}

/* y, where it is wanted, from x; otherwise dx from dy. */
static void model_max_pool(const model_layer *l, const float *x, float *y, const float *dy, float *dx, int n)
{
    int to = 0;
    if (!y)
        for (int i = 0; i < n * l->ih * l->iw * l->ic; i++) dx[i] = 0.0f;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < l->oh; r++)
            for (int q = 0; q < l->ow; q++)
                for (int c = 0; c < l->oc; c++, to++) {
                    const int at = model_first_best(l, x, i, r, q, c);
                    if (y)
                        y[to] = x[at];
                    else
                        dx[at] = dy[to];
                }
}
#endif

#ifdef MODEL_WITH_MEAN_POOL
static void model_mean_pool(const model_layer *l, const float *x, float *y, int n)
{
    const int c = l->ic, pixels = l->ih * l->iw;
    for (int i = 0; i < n; i++) {
        for (int o = 0; o < c; o++) y[i * c + o] = 0.0f;
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < c; o++) y[i * c + o] += x[(i * pixels + p) * c + o];
        for (int o = 0; o < c; o++) y[i * c + o] /= (float)pixels;
    }
}

#ifdef MODEL_WITH_STEPS
static void model_mean_pool_back(const model_layer *l, const float *dy, float *dx, int n)
{
    const int c = l->ic, pixels = l->ih * l->iw;
    for (int i = 0; i < n; i++)
        for (int p = 0; p < pixels; p++)
            for (int o = 0; o < c; o++) dx[(i * pixels + p) * c + o] = dy[i * c + o] / (float)pixels;
}
#endif
#endif
