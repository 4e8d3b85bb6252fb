"""Winograd's transforms of F(4x4, 3x3) as LLVM IR: one tile of one vector of channels a call, all of it in registers.

    y = A' [(G w G') * (B' x B)] A        x 6x6 pixels, w 3x3 taps, y 4x4 pixels, * element by element

The channels, or filters, are the lanes, so every value of a tile is a vector. The points of interpolation are
0, 2/3, -2/3, 3/2, -3/2 and infinity: the symmetric pairs share their even and odd halves, and the two squares multiply
to 1. Beside other pairs, with 64 channels of normal numbers, filters transformed in float64 and all else in float32,
the largest error as a part of what the tolerance model allows for c = 1, and the mean one (root of squares):

    points      2/3, 3/2   0.65, 1.45   1/2, 3/2   1, 2
    largest     0.14       0.14         0.27       0.61
    mean        7.5e-7     7.6e-7       9.3e-7     1.7e-6     of the mean result

The kernels, which transform filters in float32 as well, reach 0.18 where the direct kernel reaches 0.08.

Sources: Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308; Barabasz et al., Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks, arXiv:1803.10986.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.jit import element
from fastconv.cpu.microkernel import TILE

OUTPUTS = 4  # pixels of a tile along an axis that come out
INPUTS = 6  # and that go in
POINTS = INPUTS * INPUTS  # products of a tile, each a matrix product of its own
TAPS = 3

_A, _B = 2 / 3, 3 / 2  # the points beside 0 and infinity, which come with both signs
_A2, _B2 = _A * _A, _B * _B
_NORM_A = 1 / (2 * _A2 * (_A2 - _B2))
_NORM_B = 1 / (2 * _B2 * (_B2 - _A2))
_I64, _I32 = ir.IntType(64), ir.IntType(32)


class _Vectors:
    """Emits operations on vectors of one dtype; no flag lets LLVM reorder them, so bits never change."""

    def __init__(self, builder, dtype):
        self.builder = builder
        self.scalar, self.suffix, size = (
            (ir.FloatType(), "f32", 4) if dtype == types.float32 else (ir.DoubleType(), "f64", 8)
        )
        self.size = size
        self.lanes = TILE.vector_bits // 8 // size
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.mask = ir.VectorType(ir.IntType(1), self.lanes)

    def function(self, name, result, *arguments):
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

    def splat(self, number):
        return ir.Constant(self.type, [float(number)] * self.lanes)

    def broadcast(self, value, type_=None):
        undefined = ir.Constant(type_ or self.type, ir.Undefined)
        spread = self.builder.insert_element(undefined, value, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(spread, undefined, zeros)

    def multiply_add(self, a, b, c):
        """a * b + c, where a number may stand for a vector."""
        a = self.splat(a) if isinstance(a, (int, float)) else a
        fma = self.function(f"llvm.fma.v{self.lanes}{self.suffix}", self.type, *[self.type] * 3)
        return self.builder.call(fma, [a, b, c])

    def at(self, start, *offsets):
        """start + the sum of the products in offsets, each a pair of an i64 and a number."""
        for value, count in offsets:
            start = self.builder.gep(start, [self.builder.mul(value, ir.Constant(_I64, count))])
        return start

    def load(self, pointer):
        value = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        value.align = self.size
        return value

    def store(self, value, pointer):
        self.builder.store(value, self.builder.bitcast(pointer, self.type.as_pointer())).align = self.size

    def first(self, count):
        """The mask of the first `count` lanes."""
        numbers = ir.VectorType(_I64, self.lanes)
        return self.builder.icmp_signed(
            "<", ir.Constant(numbers, list(range(self.lanes))), self.broadcast(count, numbers)
        )

    def load_masked(self, pointer, mask):
        """Lanes outside the mask are not read, and zero."""
        at = self.builder.bitcast(pointer, self.type.as_pointer())
        name = f"llvm.masked.load.v{self.lanes}{self.suffix}.p0v{self.lanes}{self.suffix}"
        load = self.function(name, self.type, at.type, _I32, self.mask, self.type)
        return self.builder.call(load, [at, ir.Constant(_I32, self.size), mask, self.splat(0)])

    def store_masked(self, value, pointer, mask):
        at = self.builder.bitcast(pointer, self.type.as_pointer())
        name = f"llvm.masked.store.v{self.lanes}{self.suffix}.p0v{self.lanes}{self.suffix}"
        store = self.function(name, ir.VoidType(), self.type, at.type, _I32, self.mask)
        self.builder.call(store, [value, at, ir.Constant(_I32, self.size), mask])

    def transposed(self, rows):
        """Lane j of row i becomes lane i of row j: as many times as halve the rows, row i and the one half of
        them further are dealt out alternately."""
        half = self.lanes // 2
        low = [i // 2 + i % 2 * self.lanes for i in range(self.lanes)]
        orders = [ir.Constant(ir.VectorType(_I32, self.lanes), [i + shift for i in low]) for shift in (0, half)]
        for _ in range(self.lanes.bit_length() - 1):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = [self.builder.shuffle_vector(*pair, order) for pair in pairs for order in orders]
        return rows


def _forms(vectors, builder, x):
    """B' x, for six vectors."""
    x0, x1, x2, x3, x4, x5 = x
    fma = vectors.multiply_add
    even_a, odd_a = fma(-_B2, x2, x4), fma(-_B2, x1, x3)
    even_b, odd_b = fma(-_A2, x2, x4), fma(-_A2, x1, x3)
    return [
        fma(-_A2 - _B2, x2, builder.fadd(x0, x4)),
        fma(_A, odd_a, even_a),
        fma(-_A, odd_a, even_a),
        fma(_B, odd_b, even_b),
        fma(-_B, odd_b, even_b),
        fma(-_A2 - _B2, x3, builder.fadd(x1, x5)),
    ]


def _results(vectors, builder, m):
    """A' m, for six vectors."""
    m0, m1, m2, m3, m4, m5 = m
    fma = vectors.multiply_add
    even_a, odd_a = builder.fadd(m1, m2), builder.fsub(m1, m2)
    even_b, odd_b = builder.fadd(m3, m4), builder.fsub(m3, m4)
    return [
        builder.fadd(m0, builder.fadd(even_a, even_b)),
        fma(_A, odd_a, builder.fmul(vectors.splat(_B), odd_b)),
        fma(_A2, even_a, builder.fmul(vectors.splat(_B2), even_b)),
        fma(_A**3, odd_a, fma(_B**3, odd_b, m5)),
    ]


def _values(vectors, builder, w):
    """G w, for three vectors."""
    w0, w1, w2 = w
    fma = vectors.multiply_add
    even_a = fma(_A2 * _NORM_A, w2, builder.fmul(vectors.splat(_NORM_A), w0))
    even_b = fma(_B2 * _NORM_B, w2, builder.fmul(vectors.splat(_NORM_B), w0))
    return [
        w0,
        fma(_A * _NORM_A, w1, even_a),
        fma(-_A * _NORM_A, w1, even_a),
        fma(_B * _NORM_B, w1, even_b),
        fma(-_B * _NORM_B, w1, even_b),
        w2,
    ]


def _both_ways(transform, vectors, builder, rows):
    """The transform along each row, then along each column of what that gives."""
    rows = [transform(vectors, builder, row) for row in rows]
    columns = [transform(vectors, builder, column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


@intrinsic
def vector_lanes(typingctx, array):
    """Lanes of a vector of this dtype, a constant in compiled code."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_I64, _Vectors(builder, signature.args[0].dtype).lanes)

    return types.int64(array), codegen


@intrinsic
def input_tile(typingctx, x, x_at, row, column, v, v_at, step):
    """v[v_at + (6 i + j) step] = (B' x B)[i, j], x[i, j] being the vector at x_at + i row + j column."""

    def codegen(context, builder, signature, args):
        _, x_at, row, column, _, v_at, step = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], x_at])
        rows = [[vectors.load(vectors.at(start, (row, i), (column, j))) for j in range(INPUTS)] for i in range(INPUTS)]
        forms = _both_ways(_forms, vectors, builder, rows)
        _store_points(context, builder, signature, args, vectors, forms, 4, v_at, step)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(x, i64, i64, i64, v, i64, i64), codegen


@intrinsic
def filter_tile(typingctx, w, w_at, tap, u, u_at, step):
    """u[u_at + (6 i + j) step] = (G w G')[i, j], w[r, s] being the vector at w_at + (3 r + s) tap."""

    def codegen(context, builder, signature, args):
        _, w_at, tap, _, u_at, step = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], w_at])
        rows = [[vectors.load(vectors.at(start, (tap, TAPS * r + s))) for s in range(TAPS)] for r in range(TAPS)]
        values = _both_ways(_values, vectors, builder, rows)
        _store_points(context, builder, signature, args, vectors, values, 3, u_at, step)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(w, i64, i64, u, i64, i64), codegen


@intrinsic
def output_tile(typingctx, m, m_at, step, bias, bias_at, least, y, y_at, row, column):
    """y[y_at + i row + j column] = max(least, bias + (A' m A)[i, j]), NaN staying NaN; m as v of input_tile.

    Returns:
        Whether the sums, and their sum, are finite in every lane.
    """

    def codegen(context, builder, signature, args):
        _, m_at, step, _, bias_at, least, _, y_at, row, column = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], m_at])
        bias = vectors.load(element(context, builder, _of(signature, 3), [args[3], bias_at]))
        # Rows last: they are then complete one after the other, and stored.
        columns = [
            [vectors.load(vectors.at(start, (step, INPUTS * i + j))) for i in range(INPUTS)] for j in range(INPUTS)
        ]
        columns = [_results(vectors, builder, column) for column in columns]
        rows = [_results(vectors, builder, row) for row in zip(*columns, strict=True)]
        target = element(context, builder, _of(signature, 6), [args[6], y_at])
        least = vectors.broadcast(least)
        total = None
        for i, values in enumerate(rows):
            for j, value in enumerate(values):
                total = value if total is None else builder.fadd(total, value)
                value = builder.fadd(value, bias)
                value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
                vectors.store(value, vectors.at(target, (row, i), (column, j)))
        rest = builder.fsub(total, total)  # 0, or NaN for NaN and infinities
        lanes = builder.bitcast(builder.fcmp_unordered("uno", rest, rest), ir.IntType(vectors.lanes))
        return builder.icmp_unsigned("==", lanes, ir.Constant(lanes.type, 0))

    i64 = types.int64
    return types.boolean(m, i64, i64, bias, i64, m.dtype, y, i64, i64, i64), codegen


@intrinsic
def pixels_from_planes(typingctx, x, x_at, plane, planes, pixels, s, s_at):
    """s[s_at + lanes p + c] = x[x_at + c plane + p] for pixels p and planes c of at most as many as there are lanes.

    A whole square of lanes is written; what is beyond the pixels is zero, beyond the planes it repeats the last.
    """

    def codegen(context, builder, signature, args):
        _, x_at, plane, planes, pixels, _, s_at = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        mask = vectors.first(pixels)
        rows = []
        for pointer in _planes(context, builder, signature, args, vectors, 0, x_at, plane, planes):
            rows.append(vectors.load_masked(pointer, mask))
        target = element(context, builder, _of(signature, 5), [args[5], s_at])
        for p, row in enumerate(vectors.transposed(rows)):
            vectors.store(row, builder.gep(target, [ir.Constant(_I64, p * vectors.lanes)]))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(x, i64, i64, i64, i64, s, i64), codegen


@intrinsic
def planes_from_pixels(typingctx, s, s_at, y, y_at, plane, planes, pixels):
    """y[y_at + k plane + p] = s[s_at + lanes p + k] for pixels p and planes k of at most as many as there are lanes.

    A whole square of lanes is read, and nothing written that is beyond the pixels or the planes.
    """

    def codegen(context, builder, signature, args):
        _, s_at, _, y_at, plane, planes, pixels = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        start = element(context, builder, _of(signature, 0), [args[0], s_at])
        rows = [vectors.load(builder.gep(start, [ir.Constant(_I64, p * vectors.lanes)])) for p in range(vectors.lanes)]
        mask = vectors.first(pixels)
        pointers = _planes(context, builder, signature, args, vectors, 2, y_at, plane, planes)
        # Backwards: what is beyond the planes goes to the last of them, which is then overwritten.
        for row, pointer in list(zip(vectors.transposed(rows), pointers, strict=True))[::-1]:
            vectors.store_masked(row, pointer, mask)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(s, i64, y, i64, i64, i64, i64), codegen


@intrinsic
def copy_lanes(typingctx, source, source_at, target, target_at, count, whole):
    """target[target_at + i] = source[source_at + i] for i < count, at most as many as there are lanes.

    With `whole` the lanes from count on are written as zeros.
    """

    def codegen(context, builder, signature, args):
        _, source_at, _, target_at, count, whole = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        mask = vectors.first(count)
        value = vectors.load_masked(element(context, builder, _of(signature, 0), [args[0], source_at]), mask)
        written = builder.select(whole, ir.Constant(vectors.mask, [1] * vectors.lanes), mask)
        vectors.store_masked(value, element(context, builder, _of(signature, 2), [args[2], target_at]), written)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, target, i64, i64, types.boolean), codegen


@intrinsic
def clear_lanes(typingctx, target, at):
    """Write zeros to as many elements as there are lanes."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(builder, signature.args[0].dtype)
        vectors.store(vectors.splat(0), element(context, builder, _of(signature, 0), [args[0], args[1]]))
        return context.get_dummy_value()

    return types.void(target, types.int64), codegen


@intrinsic
def fetch_to_read(typingctx, array, at):
    """Bring the cache line of array[at] near; any index will do."""
    return types.void(array, types.int64), _fetch(write=0)


@intrinsic
def fetch_to_write(typingctx, array, at):
    """As fetch_to_read, for memory that is about to be written."""
    return types.void(array, types.int64), _fetch(write=1)


def _fetch(write):
    def codegen(context, builder, signature, args):
        line = builder.bitcast(element(context, builder, signature, args), ir.IntType(8).as_pointer())
        function = _Vectors(builder, signature.args[0].dtype).function
        fetch = function("llvm.prefetch.p0i8", ir.VoidType(), line.type, _I32, _I32, _I32)
        builder.call(fetch, [line, *(ir.Constant(_I32, number) for number in (write, 3, 1))])
        return context.get_dummy_value()

    return codegen


def _of(signature, argument):
    """What element() takes for a signature: one whose first argument is this array."""
    return types.void(signature.args[argument])


def _store_points(context, builder, signature, args, vectors, values, argument, at, step):
    target = element(context, builder, _of(signature, argument), [args[argument], at])
    for i in range(INPUTS):
        for j in range(INPUTS):
            vectors.store(values[i][j], vectors.at(target, (step, INPUTS * i + j)))


def _planes(context, builder, signature, args, vectors, argument, at, plane, planes):
    """Where each plane begins; those that are not there begin where the last does."""
    start = element(context, builder, _of(signature, argument), [args[argument], at])
    last = builder.sub(planes, ir.Constant(_I64, 1))
    for i in range(vectors.lanes):
        number = ir.Constant(_I64, i)
        number = builder.select(builder.icmp_signed("<", number, last), number, last)
        yield builder.gep(start, [builder.mul(number, plane)])
