#include "parts.h"

#ifdef MODEL_WITH_DOT
/* Sum of a b in eight fixed partial sums, which a compiler may keep in one vector. */
static float model_dot(const float *a, const float *b, int n)
{
    float s[8] = {0.0f}, rest = 0.0f;
    int i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) s[k] += a[i + k] * b[i + k];
    for (; i < n; i++) rest += a[i] * b[i];
    return rest + (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
}
#endif

static int model_all_finite(const float *a, int n)
{
    for (int i = 0; i < n; i++)
        if (!(a[i] - a[i] == 0.0f)) return 0;
    return 1;
}

#ifdef MODEL_WITH_EXP
/* e^x within 2 units in the last place: a polynomial, so that every compiler gives the same bits. */
static float model_exp(float x)
{
    uint32_t bits;
    float scale, p = 1.98756915e-4f;
    if (!(x > -87.0f)) return x != x ? x : 0.0f;
    if (x > 88.0f) x = 88.0f;
    const int k = (int)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    const float r = (x - (float)k * 0.693359375f) + (float)k * 2.12194440e-4f;
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345205e-3f;
    p = p * r + 4.16657962e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 0.5f;
    bits = (uint32_t)(k + 127) << 23;
    memcpy(&scale, &bits, sizeof scale);
    return (p * r * r + r + 1.0f) * scale;
}
#endif
