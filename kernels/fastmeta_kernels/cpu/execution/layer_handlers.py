"""The handlers of layers: products, activations, pools, norms, convolutions."""

from fastmeta_kernels.cpu.execution.handling import handles
from fastmeta_kernels.cpu.layers import activations, affine, append, layer_norm, narrow, pooling, products
from fastmeta_kernels.cpu.layers.batch_norm import pooled, pooled_tangents, tangents, values
from fastmeta_kernels.cpu.layers.winograd import phase_products, tile_products
from fastmeta_kernels.cpu.layout import instruction as op
from fastmeta_kernels.cpu.layout.instruction import any_one, share, vectors


@handles(op.PRODUCT, op.TRANSPOSE)
def handle_products(ws, job, code, l, now, t, part, parts):
    """Matrix products and the transposed weights that some of them read."""
    if any_one(code, l).op == op.PRODUCT:
        products.run_product(ws, job, code, l, now, part, parts)
    else:
        products.run_transpose(ws, code, l, now, part, parts)


@handles(op.DOTS)
def handle_dots(ws, job, code, l, now, t, part, parts):
    """Narrow linear layers."""
    first, last = share(any_one(code, l).n, part, parts)
    narrow.run_dots(ws, code, l, now, first, last)


@handles(op.BIAS)
def handle_bias(ws, job, code, l, now, t, part, parts):
    """Sums of a delta over a set."""
    first, last = vectors(ws, any_one(code, l).ocp, part, parts)
    values.run_bias_gradient(ws, code, l, now, first, last)


@handles(op.MASK)
def handle_mask(ws, job, code, l, now, t, part, parts):
    """Derivatives of ReLUs that layers took over."""
    first, last = share(any_one(code, l).n, part, parts)
    activations.run_mask(ws, code, l, now, first, last)


@handles(op.ACTIVATE, op.ACTIVATE_BACKWARD, op.ACTIVATE_TANGENT, op.ACTIVATE_BACKWARD_TANGENT)
def handle_activation(ws, job, code, l, now, t, part, parts):
    """ReLU, tanh and softplus."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.ACTIVATE:
        activations.run_forward(ws, code, l, now, first, last)
    elif it.op == op.ACTIVATE_BACKWARD:
        activations.run_backward(ws, code, l, now, first, last)
    elif it.op == op.ACTIVATE_TANGENT:
        activations.run_forward_tangent(ws, code, l, now, first, last)
    else:
        activations.run_backward_tangent(ws, code, l, now, first, last)


@handles(op.MAX_FORWARD, op.MAX_SELECT, op.MAX_BACKWARD)
def handle_max_pool(ws, job, code, l, now, t, part, parts):
    """Max pool."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.MAX_FORWARD:
        pooling.run_max_forward(ws, code, l, now, first, last)
    elif it.op == op.MAX_SELECT:
        pooling.run_max_select(ws, code, l, now, first, last)
    else:
        pooling.run_max_backward(ws, code, l, now, first, last)


@handles(op.MEAN_FORWARD, op.MEAN_BACKWARD, op.FLATTEN_FORWARD, op.FLATTEN_BACKWARD)
def handle_linear_map(ws, job, code, l, now, t, part, parts):
    """Global mean pool and the flattening copy."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.MEAN_FORWARD:
        pooling.run_mean_forward(ws, code, l, now, first, last)
    elif it.op == op.MEAN_BACKWARD:
        pooling.run_mean_backward(ws, code, l, now, first, last)
    elif it.op == op.FLATTEN_FORWARD:
        pooling.run_flatten_forward(ws, code, l, now, first, last)
    else:
        pooling.run_flatten_backward(ws, code, l, now, first, last)


@handles(op.NORM_FORWARD, op.NORM_BACKWARD, op.NORM_GRADIENT)
def handle_norm(ws, job, code, l, now, t, part, parts):
    """Batch norm."""
    if any_one(code, l).op == op.NORM_GRADIENT:
        values.run_gradient(ws, code, l, now)
    else:
        values.run(ws, code, l, now, part, parts)


@handles(op.NORM_FORWARD_TANGENT, op.NORM_BACKWARD_TANGENT)
def handle_norm_tangent(ws, job, code, l, now, t, part, parts):
    """Tangents of batch norm."""
    tangents.run(ws, code, l, now, part, parts)


@handles(op.POOL_FORWARD, op.POOL_SUMS, op.POOL_BACKWARD)
def handle_pooled_norm(ws, job, code, l, now, t, part, parts):
    """Batch norm with a pool behind it."""
    pooled.run(ws, code, l, now, part, parts)


@handles(op.POOL_FORWARD_TANGENT, op.POOL_SUMS_TANGENT, op.POOL_BACKWARD_TANGENT)
def handle_pooled_norm_tangent(ws, job, code, l, now, t, part, parts):
    """Tangents of batch norm with a pool behind it."""
    pooled_tangents.run(ws, code, l, now, part, parts)


@handles(op.AFFINE, op.AFFINE_GRADIENT)
def handle_affine(ws, job, code, l, now, t, part, parts):
    """Scale and shift of channels."""
    it = any_one(code, l)
    first, last = vectors(ws, it.cp, part, parts)
    if it.op == op.AFFINE:
        affine.run_map(ws, code, l, now, first, last)
    else:
        affine.run_gradient(ws, code, l, now, first, last)


@handles(
    op.LAYER_NORM, op.LAYER_NORM_BACKWARD, op.LAYER_NORM_TANGENT, op.LAYER_NORM_BACKWARD_TANGENT,
    op.LAYER_NORM_GRADIENT,
)  # fmt: skip
def handle_layer_norm(ws, job, code, l, now, t, part, parts):
    """Layer norm."""
    it = any_one(code, l)
    if it.op == op.LAYER_NORM_GRADIENT:
        first, last = vectors(ws, it.cp, part, parts)
        layer_norm.run_gradient(ws, code, l, now, first, last)
        return
    first, last = share(it.n, part, parts)
    if it.op == op.LAYER_NORM:
        layer_norm.run_forward(ws, code, l, now, first, last)
    elif it.op == op.LAYER_NORM_BACKWARD:
        layer_norm.run_backward(ws, code, l, now, first, last)
    elif it.op == op.LAYER_NORM_TANGENT:
        layer_norm.run_forward_tangent(ws, code, l, now, first, last)
    else:
        layer_norm.run_backward_tangent(ws, code, l, now, first, last)


@handles(op.APPEND, op.APPEND_BACKWARD, op.APPEND_GRADIENT)
def handle_append(ws, job, code, l, now, t, part, parts):
    """Learned values behind the features."""
    it = any_one(code, l)
    first, last = share(it.n, part, parts)
    if it.op == op.APPEND:
        append.run_forward(ws, code, l, now, first, last)
    elif it.op == op.APPEND_BACKWARD:
        append.run_backward(ws, code, l, now, first, last)
    else:
        append.run_gradient(ws, code, l, now)


@handles(op.WINOGRAD, op.WINOGRAD_WEIGHT, op.WINOGRAD_SUMS, op.WINOGRAD_GRADIENT)
def handle_winograd(ws, job, code, l, now, t, part, parts):
    """Convolutions by tiles."""
    kind = any_one(code, l).op
    if kind == op.WINOGRAD:
        tile_products.run_convolve(ws, job, code, l, now, part, parts)
    elif kind == op.WINOGRAD_SUMS:
        tile_products.run_sums(ws, job, code, l, now, part, parts)
    elif kind == op.WINOGRAD_WEIGHT:
        tile_products.run_weight(ws, job, code, l, now, part, parts)
    else:
        tile_products.run_gradient(ws, job, code, l, now, part, parts)


@handles(op.PHASES, op.PHASES_WEIGHT, op.PHASES_SUMS, op.PHASES_GRADIENT)
def handle_phases(ws, job, code, l, now, t, part, parts):
    """Convolutions by phases."""
    kind = any_one(code, l).op
    if kind == op.PHASES:
        phase_products.run_convolve(ws, job, code, l, now, part, parts)
    elif kind == op.PHASES_SUMS:
        phase_products.run_sums(ws, job, code, l, now, part, parts)
    elif kind == op.PHASES_WEIGHT:
        phase_products.run_weight(ws, job, code, l, now, part, parts)
    else:
        phase_products.run_gradient(ws, job, code, l, now, part, parts)
