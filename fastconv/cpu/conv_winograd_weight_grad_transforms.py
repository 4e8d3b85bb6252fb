"""The transforms of Winograd's weight gradient: errors to points, and sums at points to weights.

F(4x4, 3x3) computes y = A' (G w G' * B' x B) A for each tile, * being the product point by point. Its adjoint in w is

    dw = G' (A dy A' * B' x B) G

with the same matrices; the middle is summed over tiles before it is transformed.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.conv_winograd_transforms import (
    _A,
    _A2,
    _B,
    _B2,
    _I64,
    _NORM_A,
    _NORM_B,
    INPUTS,
    OUTPUTS,
    TAPS,
    _both_ways,
    _of,
    _store_points,
    _Vectors,
)
from fastconv.cpu.jit import element


def _errors(vectors, builder, d):
    """A d, for four vectors."""
    d0, d1, d2, d3 = d
    fma = vectors.multiply_add
    even_a, odd_a = fma(_A2, d2, d0), fma(_A**3, d3, builder.fmul(vectors.splat(_A), d1))
    even_b, odd_b = fma(_B2, d2, d0), fma(_B**3, d3, builder.fmul(vectors.splat(_B), d1))
    return [
        d0,
        builder.fadd(even_a, odd_a),
        builder.fsub(even_a, odd_a),
        builder.fadd(even_b, odd_b),
        builder.fsub(even_b, odd_b),
        d3,
    ]


def _weights(vectors, builder, m):
    """G' m, for six vectors."""
    m0, m1, m2, m3, m4, m5 = m
    fma = vectors.multiply_add
    even_a, odd_a = builder.fadd(m1, m2), builder.fsub(m1, m2)
    even_b, odd_b = builder.fadd(m3, m4), builder.fsub(m3, m4)
    return [
        fma(_NORM_A, even_a, fma(_NORM_B, even_b, m0)),
        fma(_NORM_A * _A, odd_a, builder.fmul(vectors.splat(_NORM_B * _B), odd_b)),
        fma(_NORM_A * _A2, even_a, fma(_NORM_B * _B2, even_b, m5)),
    ]


@intrinsic
def error_tile(typingctx, dy, dy_at, row, column, d, d_at, step):
    """d[d_at + (6 i + j) step] = (A dy A')[i, j], dy[i, j] being the vector at dy_at + i row + j column."""

    def codegen(context, builder, signature, args):
        _, dy_at, row, column, _, d_at, step = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], dy_at])
        rows = [
            [vectors.load(vectors.at(start, (row, i), (column, j))) for j in range(OUTPUTS)] for i in range(OUTPUTS)
        ]
        points = _both_ways(_errors, vectors, builder, rows)
        _store_points(context, builder, signature, args, vectors, points, 4, d_at, step)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(dy, i64, i64, i64, d, i64, i64), codegen


@intrinsic
def weight_tile(typingctx, m, m_at, step, dw, dw_at):
    """dw[dw_at + (3 r + s) lanes] = (G' m G)[r, s], m[i, j] being the vector at m_at + (6 i + j) step.

    Returns:
        Whether all of it, and its sum, is finite in every lane.
    """

    def codegen(context, builder, signature, args):
        _, m_at, step, _, dw_at = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], m_at])
        rows = [[vectors.load(vectors.at(start, (step, INPUTS * i + j))) for j in range(INPUTS)] for i in range(INPUTS)]
        target = element(context, builder, _of(signature, 3), [args[3], dw_at])
        total = None
        for r, row in enumerate(_both_ways(_weights, vectors, builder, rows)):
            for s, value in enumerate(row):
                total = value if total is None else builder.fadd(total, value)
                vectors.store(value, builder.gep(target, [ir.Constant(_I64, (TAPS * r + s) * vectors.lanes)]))
        rest = builder.fsub(total, total)  # 0, or NaN for NaN and infinities
        lanes = builder.bitcast(builder.fcmp_unordered("uno", rest, rest), ir.IntType(vectors.lanes))
        return builder.icmp_unsigned("==", lanes, ir.Constant(lanes.type, 0))

    i64 = types.int64
    return types.boolean(m, i64, i64, dw, i64), codegen
