/* Adapts to ten points of a sine curve and predicts there: cc native.c fastmeta-*-x86-64-v3.so -lm -lpthread */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "curve.h"

static float x[CURVE_SAMPLES], y[CURVE_SAMPLES], phi[CURVE_PARAMETERS], outputs[CURVE_QUERIES];

int main(void) {
    FILE *file = fopen("curve.fastmeta", "rb");
    void *program = aligned_alloc(64, CURVE_PROGRAM), *work = aligned_alloc(64, CURVE_WORK);
    int64_t why = 1;
    if (file && program && work && fread(program, 1, CURVE_PROGRAM, file) == CURVE_PROGRAM)
        fastmeta_check(program, CURVE_PROGRAM, &why);
    if (why)
        return (int)why;
    memset(work, 0, CURVE_WORK);
    for (int i = 0; i < CURVE_SAMPLES; i++) {
        x[i] = (float)i - 4.5f;
        y[i] = 2 * sinf(x[i]);
    }
    fastmeta_adapt(program, work, x, y, phi);
    fastmeta_predict(program, work, phi, x, outputs);
    for (int i = 0; i < CURVE_QUERIES; i++)
        printf("%.9g %.9g\n", y[i], outputs[i]);
    return 0;
}
