"""Vectors as values of compiled code: what a loop keeps in registers while it walks over taps.

Numba's own loops become vectors only as a whole, a store for every tap included. A kernel that holds its
accumulators in these instead reads each operand once and writes each result once, and which lanes share a
vector is written down rather than found out: neither the bits nor the speed hang on where memory lies.

A vector may be a few registers wide: an operation on it is then as many instructions, which do not wait for each
other. Lanes are counted in 32-bit elements whatever the dtype, so that one loop serves all of them.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload_attribute, register_model

from fastconv.cpu.jit import element, pasted
from fastconv.cpu.microkernel import TILE

LANES = TILE.vector_bits // 32
PAIR, QUAD = 2 * LANES, 4 * LANES


class Vector(types.Type):
    """So many lanes of a dtype; a mask has lanes of truth values."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


_SCALARS = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.uint8: ir.IntType(8),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
    types.boolean: ir.IntType(1),
}
_NAMES = {types.float32: "f32", types.float64: "f64", types.uint8: "i8", types.int32: "i32", types.int64: "i64"}


def _llvm(vector):
    return ir.VectorType(_SCALARS[vector.dtype], vector.lanes)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _llvm(vector))


@overload_attribute(Vector, "lanes")
def _lanes(vector):
    lanes = vector.lanes
    return lambda vector: lanes


def _pointer(context, builder, signature, args, vector):
    """Where a vector in an array begins, and the bytes to which it is aligned: those of one element."""
    pointer = element(context, builder, signature, args)
    return builder.bitcast(pointer, _llvm(vector).as_pointer()), vector.dtype.bitwidth // 8


def _numbers(lanes, first=0, step=1, bits=32):
    return ir.Constant(ir.VectorType(ir.IntType(bits), lanes), [first + step * i for i in range(lanes)])


def _spread(builder, value, vector):
    undefined = ir.Constant(_llvm(vector), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, _numbers(vector.lanes, 0, 0))


def _first_lanes(builder, count, lanes):
    """A mask of the lanes below count."""
    narrow = builder.trunc(count, ir.IntType(32))
    return builder.icmp_signed("<", _numbers(lanes), _spread(builder, narrow, Vector(types.int32, lanes)))


def _masked(builder, operation, vector, arguments, result):
    """A call of llvm.masked.load or llvm.masked.store."""
    name = f"llvm.masked.{operation}.v{vector.lanes}{_NAMES[vector.dtype]}.p0"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


@intrinsic(prefer_literal=True)
def load(typingctx, array, index, lanes):
    """array[index : index + lanes] of a contiguous 1-D array; lanes is a constant."""
    vector = Vector(array.dtype, lanes.literal_value)

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature, args, vector)
        value = builder.load(pointer)
        value.align = align
        return value

    return vector(array, types.int64, lanes), codegen


@intrinsic(prefer_literal=True)
def load_first(typingctx, array, index, lanes, count, fill):
    """As load, of which the lanes from `count` on are not read but filled with a number."""
    vector = Vector(array.dtype, lanes.literal_value)

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature, args, vector)
        mask = _first_lanes(builder, args[3], vector.lanes)
        rest = [ir.Constant(ir.IntType(32), align), mask, _spread(builder, args[4], vector)]
        return _masked(builder, "load", vector, [pointer, *rest], _llvm(vector))

    return vector(array, types.int64, lanes, types.int64, array.dtype), codegen


def _fitting(builder, value, vector, dtype):
    """The integers of a vector in an array's dtype."""
    target = ir.VectorType(_SCALARS[dtype], vector.lanes)
    if dtype.bitwidth < vector.dtype.bitwidth:
        return builder.trunc(value, target)
    return builder.sext(value, target) if dtype.bitwidth > vector.dtype.bitwidth else value


@intrinsic
def store(typingctx, array, index, value):
    """array[index : index + lanes] = value; integers as wide as the array has them."""

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature, args, Vector(array.dtype, value.lanes))
        builder.store(_fitting(builder, args[2], value, array.dtype), pointer).align = align
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def store_first(typingctx, array, index, value, count):
    """As store, of the lanes below count alone."""
    vector = Vector(array.dtype, value.lanes)

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature, args, vector)
        mask = _first_lanes(builder, args[3], vector.lanes)
        fitting = _fitting(builder, args[2], value, array.dtype)
        rest = [pointer, ir.Constant(ir.IntType(32), align), mask]
        _masked(builder, "store", vector, [fitting, *rest], ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.int64, value, types.int64), codegen


@pasted
def store_within(array, index, value, left):
    """Store a whole vector where so many lanes are left, otherwise the first of it."""
    if left >= value.lanes:
        store(array, index, value)
    else:
        store_first(array, index, value, left)


@intrinsic(prefer_literal=True)
def splat(typingctx, array, value, lanes):
    """A vector of the array's dtype, every lane of which is value."""
    vector = Vector(array.dtype, lanes.literal_value)

    def codegen(context, builder, signature, args):
        return _spread(builder, args[1], vector)

    return vector(array, array.dtype, lanes), codegen


def _operation(name, document):
    """An intrinsic of two vectors of one type by the builder's method of this name; that of integers has no f."""

    def codegen(context, builder, signature, args):
        floating = isinstance(signature.args[0].dtype, types.Float)
        return getattr(builder, name if floating else name[1:])(*args)

    def typing(typingctx, a, b):
        return a(a, a), codegen

    typing.__name__, typing.__doc__ = name, document
    return intrinsic(typing)


add = _operation("fadd", "a + b, lane by lane.")
multiply = _operation("fmul", "a * b, lane by lane.")
divide = _operation("fdiv", "a / b of floats, lane by lane.")


@intrinsic
def wins(typingctx, value, best):
    """Which lanes of value are larger than best, or no numbers: of NaNs the last wins, of equals the first."""

    def codegen(context, builder, signature, args):
        return builder.or_(builder.fcmp_ordered(">", *args), builder.fcmp_unordered("uno", args[0], args[0]))

    return Vector(types.boolean, value.lanes)(value, best), codegen


@intrinsic
def exceeds(typingctx, value, best):
    """Which lanes of value are larger than best."""

    def codegen(context, builder, signature, args):
        return builder.fcmp_ordered(">", *args)

    return Vector(types.boolean, value.lanes)(value, best), codegen


@intrinsic
def equals(typingctx, a, b):
    """Which lanes of two vectors are equal."""

    def codegen(context, builder, signature, args):
        compare = builder.fcmp_ordered if isinstance(a.dtype, types.Float) else builder.icmp_signed
        return compare("==", *args)

    return Vector(types.boolean, a.lanes)(a, b), codegen


@intrinsic
def choose(typingctx, mask, a, b):
    """a in the lanes of the mask, b in the others."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(mask, a, a), codegen


@intrinsic
def even_lanes(typingctx, a, b):
    """Every second lane of a and then of b, from the first on."""
    return _every_second(a, 0)


@intrinsic
def odd_lanes(typingctx, a, b):
    """Every second lane of a and then of b, from the second on."""
    return _every_second(a, 1)


def _every_second(vector, first):
    def codegen(context, builder, signature, args):
        return builder.shuffle_vector(*args, _numbers(vector.lanes, first, 2))

    return vector(vector, vector), codegen


@intrinsic
def interleave(typingctx, a, b):
    """a vector twice as wide of a[0], b[0], a[1], b[1] and so on."""
    wide = Vector(a.dtype, 2 * a.lanes)

    def codegen(context, builder, signature, args):
        order = [i // 2 + i % 2 * a.lanes for i in range(wide.lanes)]
        return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(ir.IntType(32), wide.lanes), order))

    return wide(a, b), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of a and b, lane by lane; b where either is no number."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), codegen


@intrinsic
def no_number(typingctx, value):
    """Which lanes of floats are NaN."""

    def codegen(context, builder, signature, args):
        return builder.fcmp_unordered("uno", args[0], args[0])

    return Vector(types.boolean, value.lanes)(value), codegen


@intrinsic
def either(typingctx, a, b):
    """Which lanes are in the mask a or in the mask b."""

    def codegen(context, builder, signature, args):
        return builder.or_(*args)

    return a(a, a), codegen


@intrinsic
def any_lane(typingctx, mask):
    """Whether any lane is in the mask."""

    def codegen(context, builder, signature, args):
        bits = ir.IntType(mask.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), codegen


@intrinsic
def first_lane(typingctx, mask):
    """The first lane that is in the mask, of which there must be one."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.lanes))
        place = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
        return builder.zext(place, ir.IntType(64)) if mask.lanes < 64 else place

    return types.int64(mask), codegen


def _fold(builder, value, vector, operation):
    """All lanes in one, by halves of what is left."""
    lanes = vector.lanes
    while lanes > 1:
        lanes //= 2
        low = builder.shuffle_vector(value, value, _numbers(lanes))
        high = builder.shuffle_vector(value, value, _numbers(lanes, lanes))
        value = operation(low, high)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def sum_of_lanes(typingctx, vector):
    """The sum of all lanes of a vector of floats, in an order of its own."""

    def codegen(context, builder, signature, args):
        return _fold(builder, args[0], vector, builder.fadd)

    return vector.dtype(vector), codegen


@intrinsic
def largest_lane(typingctx, vector):
    """The largest lane of a vector of floats, none of them NaN."""

    def codegen(context, builder, signature, args):
        return _fold(builder, args[0], vector, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return vector.dtype(vector), codegen
