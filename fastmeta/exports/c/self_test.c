#include "parts.h"

#ifndef MODEL_NO_TEST
/* n numbers from -1 to 1. */
static void model_draw(uint32_t *seed, float *to, int n)
{
    for (int i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        to[i] = (float)(*seed >> 8) / 8388608.0f - 1.0f;
    }
}

float model_self_test(model_state *state, model_work *work)
{
    static float x[MODEL_SAMPLES * MODEL_INPUTS], queries[MODEL_TEST_QUERIES * MODEL_INPUTS];
    static float outputs[MODEL_TEST_QUERIES * MODEL_OUTPUTS];
    uint32_t seed = model_test_seed;
    float worst = 0.0f;
    model_status status;
    model_draw(&seed, x, MODEL_SAMPLES * MODEL_INPUTS);
    model_draw(&seed, queries, MODEL_TEST_QUERIES * MODEL_INPUTS);
#ifdef MODEL_WITH_LABELS
    static int32_t y[MODEL_SAMPLES];
    for (int i = 0; i < MODEL_SAMPLES; i++) y[i] = i % MODEL_OUTPUTS;
#else
    static float y[MODEL_SAMPLES * MODEL_OUTPUTS];
    model_draw(&seed, y, MODEL_SAMPLES * MODEL_OUTPUTS);
#endif
    model_reset(state);
#ifdef MODEL_WITH_STEPS
    status = model_adapt(state, work, x, y, MODEL_SAMPLES, MODEL_STEPS);
#else
    status = model_adapt(state, work, x, y, MODEL_SAMPLES);
#endif
    if (status == MODEL_OK) status = model_predict(state, work, queries, MODEL_TEST_QUERIES, outputs);
    if (status != MODEL_OK) return -1.0f;
    for (int i = 0; i < MODEL_TEST_QUERIES * MODEL_OUTPUTS; i++) {
        float d = outputs[i] - model_test_outputs[i];
        if (d < 0.0f) d = -d;
        if (!(d <= worst)) worst = d;
    }
    return worst / model_test_scale;
}
#endif
