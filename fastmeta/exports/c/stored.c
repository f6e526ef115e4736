#include "parts.h"

/* The learned value of parameter `at`, which is in array `array`. */
#ifdef MODEL_WITH_BYTES
static float model_learned(int at, int array)
{
    return (float)model_stored[at] * model_scales[array];
}
#endif

/* `count` parameters from place `at` on, as the task has them; `room` is for those that flash holds as bytes. */
static const float *model_row(const model_state *state, int at, int array, int count, float *room)
{
    (void)state, (void)array, (void)count, (void)room;
#ifdef MODEL_WITH_STEPS
#ifdef MODEL_WITH_UNMOVED
    if (at >= MODEL_FIRST && at < MODEL_FIRST + MODEL_ADAPTED) return state->theta + (at - MODEL_FIRST);
#else
    return state->theta + at;
#endif
#endif
#ifdef MODEL_WITH_UNMOVED
#ifdef MODEL_WITH_BYTES
    for (int i = 0; i < count; i++) room[i] = model_learned(at + i, array);
    return room;
#else
    return model_stored + at;
#endif
#endif
}

#ifdef MODEL_WITH_STEPS
/* phi = theta, the learned initialisation. */
static void model_begin(model_state *state)
{
#ifdef MODEL_WITH_BYTES
    for (int a = 0; a < MODEL_ARRAYS; a++)
        for (int i = model_edges[a]; i < model_edges[a + 1]; i++)
            if (i >= MODEL_FIRST && i < MODEL_FIRST + MODEL_ADAPTED) state->theta[i - MODEL_FIRST] = model_learned(i, a);
#else
    for (int i = 0; i < MODEL_ADAPTED; i++) state->theta[i] = model_stored[MODEL_FIRST + i];
#endif
}

/* w -= rate * slope for `count` parameters from place `at` on; those that no inner step moves stay. */
static void model_descend(model_state *state, int at, int array, const float *slope, int count, int step)
{
    float *w = state->theta + (at - MODEL_FIRST);
    const int row = step < MODEL_RATE_ROWS ? step : MODEL_RATE_ROWS - 1;
    (void)array, (void)row;
#ifdef MODEL_WITH_UNMOVED
    if (at < MODEL_FIRST || at >= MODEL_FIRST + MODEL_ADAPTED) return;
#endif
    for (int i = 0; i < count; i++) {
#ifdef MODEL_WITH_RATE_EACH
        const float rate = model_rates[row * MODEL_PARAMETERS + at + i];
#else
#ifdef MODEL_WITH_RATE_ARRAYS
        const float rate = model_rates[row * MODEL_ARRAYS + array];
#else
        const float rate = model_rates[row];
#endif
#endif
#ifdef MODEL_WITH_PROXIMAL
#ifdef MODEL_WITH_BYTES
        w[i] -= rate * (slope[i] + model_pull * (w[i] - model_learned(at + i, array)));
#else
        w[i] -= rate * (slope[i] + model_pull * (w[i] - model_stored[at + i]));
#endif
#else
        w[i] -= rate * slope[i];
#endif
    }
}
#endif
