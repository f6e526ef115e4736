#include "parts.h"

#ifdef MODEL_WITH_RELU
static void model_relu(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

#ifdef MODEL_WITH_STEPS
static void model_relu_back(const float *y, float *dy, int n)
{
    for (int i = 0; i < n; i++)
        if (!(y[i] > 0.0f)) dy[i] = 0.0f;
}
#endif
#endif

#ifdef MODEL_WITH_TANH
/* By its series near 0, by e^2x elsewhere. */
static void model_tanh(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) {
        const float s = x[i] * x[i], size = x[i] < 0.0f ? -x[i] : x[i];
        if (size < 0.3f) {
            y[i] = x[i] + x[i] * s * (-0.333333333f + s * (0.133333333f + s * (-0.0539682540f + s * 0.0218694885f)));
        } else {
            const float t = 1.0f - 2.0f / (model_exp(2.0f * (size > 10.0f ? 10.0f : size)) + 1.0f);
            y[i] = x[i] < 0.0f ? -t : t;
        }
    }
}

#ifdef MODEL_WITH_STEPS
static void model_tanh_back(const float *y, float *dy, int n)
{
    for (int i = 0; i < n; i++) dy[i] *= 1.0f - y[i] * y[i];
}
#endif
#endif

#ifdef MODEL_WITH_SOFTPLUS
/* log(1 + e^x) = max(x, 0) + log(1 + t) with t = e^-|x|, log(1 + t) = 2 artanh(t / (2 + t)) by its series. */
static void model_softplus(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) {
        const float t = model_exp(x[i] < 0.0f ? x[i] : -x[i]), u = t / (2.0f + t), s = u * u;
        float p = 0.0769230769f;
        p = p * s + 0.0909090909f;
        p = p * s + 0.111111111f;
        p = p * s + 0.142857143f;
        p = p * s + 0.2f;
        p = p * s + 0.333333333f;
        y[i] = (x[i] > 0.0f ? x[i] : 0.0f) + 2.0f * (u + u * s * p);
    }
}

#ifdef MODEL_WITH_STEPS
/* The slope is 1 - e^-y, by its series near 0. */
static void model_softplus_back(const float *y, float *dy, int n)
{
    for (int i = 0; i < n; i++) {
        const float v = y[i];
        dy[i] *= v < 0.1f ? v * (1.0f - v * (0.5f - v * (0.166666667f - v * (0.0416666667f - v * 0.00833333333f))))
                          : 1.0f - model_exp(-v);
    }
}
#endif
#endif
