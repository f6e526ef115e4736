/* Adapts the exported model `curve` to five points of a new sine curve, and predicts five others. */
#include "curve.h"

#include <stdio.h>

static curve_state state;
static curve_work work;

int main(void)
{
    const float x[5] = {-4.0f, -1.5f, 0.5f, 2.0f, 4.5f};
    const float y[5] = {1.36f, -1.80f, 0.86f, 1.64f, -1.76f}; /* about 1.8 sin x */
    const float queries[5] = {-3.0f, -2.0f, 0.0f, 1.0f, 3.0f};
    float predictions[5];
    if (curve_adapt(&state, &work, x, y, 5, 10) != CURVE_OK) return 1;
    if (curve_predict(&state, &work, queries, 5, predictions) != CURVE_OK) return 2;
    for (int i = 0; i < 5; i++) printf("%.7f\n", (double)predictions[i]);
    return 0;
}
