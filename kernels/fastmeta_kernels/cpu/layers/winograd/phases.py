"""Stride 2 in one dimension by Winograd on its phases: four linear maps over a whole side, and two of the taps.

With odd pixels o1 = x1, o2 = x3 .. and even ones e0 = x0, e1 = x2 .., 3 taps, padding 1, and 0 outside the image,

    y_i = w0 o_i + w2 o_(i+1) + w1 e_i

Both kinds of tiles take the points 0, 1, -1 and infinity, so all their products have one of five weights: w0,
(w0 + w2) / 2, (w0 - w2) / 2, w2 and, for even pixels, w1.

    LONG   o1 o2 o3 -> y0 .. y3     the whole product of polynomials, beside it all is border: 4 products for 6
    SHORT  o4 .. o7 -> y4 .. y6     F(3, 2): 4 products for 6
    7 -> 4    LONG, four even pixels: 8 products for 10 inside      14 -> 7    LONG, SHORT, o4 w2, seven even: 16 for 20

A side's values lie by weight: one of each tile, behind those of w2 the single o4, at last the even pixels.
"""

from __future__ import annotations

from typing import Any

from fastmeta_kernels.cpu.layers.winograd.points import Emitter, finishing_map, whole_map
from fastmeta_kernels.cpu.layout.winograd import PHASE_WEIGHTS, TAPS, WHOLE_SIDES, scheme_values

Values = list[Any]


def _by_weight(tiles: list[Values], single: Values, even: Values) -> Values:
    return [*(value for weight in zip(*tiles, strict=True) for value in weight), *single, *even]


def _by_tile(v: Values) -> tuple[list[Values], Values, Values]:
    count = 2 if len(v) > 8 else 1
    values = 4 * count
    return [v[i:values:count] for i in range(count)], v[values : values + count - 1], v[values + count - 1 :]


def spread_rule(e: Emitter, x: Values) -> Values:
    """Values of pixels."""
    o, even = x[1::2], x[0::2]
    outer = e.plus(o[0], o[2])
    tiles = [[o[2], e.plus(outer, o[1]), e.minus(outer, o[1]), o[0]]]
    if len(o) == 3:
        return _by_weight(tiles, [], even)
    tiles += [[e.minus(o[3], o[5]), e.plus(o[4], o[5]), e.minus(o[5], o[4]), e.minus(o[6], o[4])]]
    return _by_weight(tiles, [o[3]], even)


def collect_rule(e: Emitter, d: Values) -> Values:
    """Deltas of pixels of those of values: the adjoint of `spread_rule`."""
    (first, *more), single, even = _by_tile(d)
    both = e.plus(first[1], first[2])
    o = [e.plus(both, first[3]), e.minus(first[1], first[2]), e.plus(both, first[0])]
    for short in more:
        o += [
            e.plus(short[0], single[0]),
            e.minus(e.minus(short[1], short[2]), short[3]),
            e.minus(e.plus(short[1], short[2]), short[0]),
            short[3],
        ]
    return [even[i // 2] if i % 2 == 0 else o[i // 2] for i in range(len(o) + len(even))]


def gather_rule(e: Emitter, m: Values) -> Values:
    """Outputs of products."""
    (first, *more), single, even = _by_tile(m)
    y = [
        first[3],
        e.minus(e.plus(first[1], first[2]), first[0]),
        e.minus(e.minus(first[1], first[2]), first[3]),
        e.plus(first[0], single[0]) if single else first[0],
    ]
    for short in more:
        both = e.plus(short[1], short[2])
        y += [e.plus(both, short[0]), e.minus(short[1], short[2]), e.plus(both, short[3])]
    return [e.plus(odd, other) for odd, other in zip(y, even, strict=True)]


def deal_rule(e: Emitter, dy: Values) -> Values:
    """Deltas of products of those of outputs: the adjoint of `gather_rule`."""
    tiles = [[e.minus(dy[3], dy[1]), e.plus(dy[1], dy[2]), e.minus(dy[1], dy[2]), e.minus(dy[0], dy[2])]]
    if len(dy) == 4:
        return _by_weight(tiles, [], dy)
    ends = e.plus(dy[4], dy[6])
    tiles += [[dy[4], e.plus(ends, dy[5]), e.minus(ends, dy[5]), dy[6]]]
    return _by_weight(tiles, [dy[3]], dy)


def weights_rule(e: Emitter, w: Values) -> Values:
    """The five weights of three taps."""
    return [w[0], e.times(0.5, e.plus(w[0], w[2])), e.times(0.5, e.minus(w[0], w[2])), w[2], w[1]]


def taps_rule(e: Emitter, u: Values) -> Values:
    """Taps' gradients of weights' gradients: the adjoint of `weights_rule`."""
    return [e.times(0.5, e.plus(u[1], u[2]), u[0]), u[4], e.times(0.5, e.minus(u[1], u[2]), u[3])]


SMALL, LARGE = WHOLE_SIDES
spread_small, spread_large = (whole_map(spread_rule, side) for side in WHOLE_SIDES)
collect_small, collect_large = (whole_map(collect_rule, scheme_values(side)) for side in WHOLE_SIDES)
gather_small, gather_large = (whole_map(gather_rule, scheme_values(side)) for side in WHOLE_SIDES)
deal_small, deal_large = (whole_map(deal_rule, (side + 1) // 2) for side in WHOLE_SIDES)
finish_small, finish_large = (finishing_map(gather_rule, scheme_values(side)) for side in WHOLE_SIDES)
from_taps, to_taps = whole_map(weights_rule, TAPS), whole_map(taps_rule, PHASE_WEIGHTS)
