#include "parts.h"

/* One layer of n samples, forwards. whose, held: of batch norm. */
static void model_layer_forward(const model_layer *l, const model_state *state, model_work *work, const float *x, float *y,
                                int n, int whose, float *held)
{
    const int size = n * l->oh * l->ow * l->oc;
    (void)state, (void)work, (void)whose, (void)held, (void)size;
    switch (l->kind) {
#ifdef MODEL_WITH_PRODUCT
    case MODEL_PRODUCT: model_product(l, state, work, x, y, n); break;
#endif
#ifdef MODEL_WITH_NORM
    case MODEL_NORM: model_norm(l, state, work, x, y, n, whose, held); break;
#endif
#ifdef MODEL_WITH_AFFINE
    case MODEL_AFFINE: model_affine(l, state, work, x, y, n); break;
#endif
#ifdef MODEL_WITH_LAYER_NORM
    case MODEL_LAYER_NORM: model_layer_norm(l, state, work, x, y, n); break;
#endif
#ifdef MODEL_WITH_RELU
    case MODEL_RELU: model_relu(x, y, size); break;
#endif
#ifdef MODEL_WITH_TANH
    case MODEL_TANH: model_tanh(x, y, size); break;
#endif
#ifdef MODEL_WITH_SOFTPLUS
    case MODEL_SOFTPLUS: model_softplus(x, y, size); break;
#endif
#ifdef MODEL_WITH_MAX_POOL
    case MODEL_MAX_POOL: model_max_pool(l, x, y, 0, 0, n); break;
#endif
#ifdef MODEL_WITH_MEAN_POOL
    case MODEL_MEAN_POOL: model_mean_pool(l, x, y, n); break;
#endif
    default: break;
    }
}

/* What leaves layer last - 1 where n samples x enter layer `first`; only one layer's values are kept. */
static const float *model_through(const model_state *state, model_work *work, const float *x, int n, int first, int last,
                                  int whose, float *held)
{
    const float *in = x;
    float *out = work->one;
    for (int i = first; i < last; i++) {
        model_layer_forward(&model_layers[i], state, work, in, out, n, whose, held);
        in = out;
        out = out == work->one ? work->other : work->one;
    }
    return in;
}

#ifdef MODEL_WITH_STEPS
/* The outputs of n samples x that enter the first layer that moves; the values of every layer stay in work->kept. */
static const float *model_keep(const model_state *state, model_work *work, const float *x, int n, int whose)
{
    for (int i = MODEL_FIRST_LAYER; i < MODEL_LAYERS; i++) {
        const model_layer *l = &model_layers[i];
        const float *in = l->x < 0 ? x : work->kept + n * l->x;
        model_layer_forward(l, state, work, in, work->kept + n * l->y, n, whose, 0);
    }
    return work->kept + n * model_layers[MODEL_LAYERS - 1].y;
}

/* One inner step: from the slopes by the outputs, in work->one, to those by the parameters, which move at once. */
static void model_back(model_state *state, model_work *work, const float *x, int n, int step)
{
    float *d = work->one, *e = work->other;
    for (int i = MODEL_LAYERS - 1; i >= MODEL_FIRST_LAYER; i--) {
        const model_layer *l = &model_layers[i];
        const float *in = l->x < 0 ? x : work->kept + n * l->x, *y = work->kept + n * l->y;
        float *dx = i > MODEL_FIRST_LAYER ? e : 0;
        const int size = n * l->oh * l->ow * l->oc;
        int turned = 0;
        (void)in, (void)y, (void)dx, (void)size;
        switch (l->kind) {
#ifdef MODEL_WITH_PRODUCT
        case MODEL_PRODUCT:
            model_product_back(l, state, work, in, d, dx, n, step);
            turned = 1;
            break;
#endif
#ifdef MODEL_WITH_NORM
        case MODEL_NORM: model_norm_back(l, state, work, in, d, n, step); break;
#endif
#ifdef MODEL_WITH_AFFINE
        case MODEL_AFFINE: model_affine_back(l, state, work, in, d, n, step); break;
#endif
#ifdef MODEL_WITH_LAYER_NORM
        case MODEL_LAYER_NORM: model_layer_norm_back(l, state, work, in, d, n, step); break;
#endif
#ifdef MODEL_WITH_RELU
        case MODEL_RELU: model_relu_back(y, d, size); break;
#endif
#ifdef MODEL_WITH_TANH
        case MODEL_TANH: model_tanh_back(y, d, size); break;
#endif
#ifdef MODEL_WITH_SOFTPLUS
        case MODEL_SOFTPLUS: model_softplus_back(y, d, size); break;
#endif
#ifdef MODEL_WITH_MAX_POOL
        case MODEL_MAX_POOL:
            model_max_pool(l, in, 0, d, e, n);
            turned = 1;
            break;
#endif
#ifdef MODEL_WITH_MEAN_POOL
        case MODEL_MEAN_POOL:
            model_mean_pool_back(l, d, e, n);
            turned = 1;
            break;
#endif
        default: break;
        }
        if (turned) {
            float *t = d;
            d = e;
            e = t;
        }
    }
}
#endif
