"""Vectors of float32 as three vectors of bfloat16 pairs, and the way back of finished sums.

    x = x0 + x1 + x2      each the bfloat16 nearest to what is left; the sum is exact

A pair is a 4-byte word: the low half from one vector, the high half from another. Where the tiles of AMX would not
compute as float32 does is told by flags: NOT_FINITE, and TINY for what is nonzero and so small that subnormal pieces
matter.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 16
PIECES = 3
NOT_FINITE, TINY = 1, 2

# Nonzero factors at least this large have no product whose flushed pieces matter: 2^-51 * 2^-51 = 2^-126 * 2^24.
_TINY_FACTOR = (127 - 51) << 23
# Sums at least this large do not notice what was flushed, at most 2^-126 a piece, of thousands of products.
_TINY_SUM = (127 - 80) << 23
_INFINITY = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_HIGH_HALF = 0xFFFF0000

_BIT, _I32, _I64, _F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
_BITS, _WORDS, _LONGS, _FLOATS = (ir.VectorType(t, LANES) for t in (_BIT, _I32, _I64, _F32))


@intrinsic
def split_pairs(typingctx, x, low_at, low_count, high_at, high_count, stride, pairs, at, piece, count):
    """Split two vectors of 16 numbers and write three vectors of pairs.

    Args:
        x: Flat float32 array.
        low_at, high_at: Where the first number of the low and of the high halves lies.
        low_count, high_count: How many numbers there are, at most 16; the rest are zeros. None is read if it is 0.
        stride: Elements from one number to the next.
        pairs: Flat int32 array.
        at, piece: Where the vector of the first piece is written, and elements from one piece to the next.
        count: How many pairs are written, at most 16.

    Returns:
        NOT_FINITE and TINY, combined, as int64.
    """
    i64 = types.int64
    signature = i64(x, i64, i64, i64, i64, i64, pairs, i64, i64, i64)
    return signature, _emit_split


def _emit_split(context, builder, signature, args):
    _, low_at, low_count, high_at, high_count, stride, _, at, piece, count = args
    halves = [
        _gathered(builder, _pointer(context, builder, signature, args, 0, start), filled, stride)
        for start, filled in ((low_at, low_count), (high_at, high_count))
    ]
    mask = _first_lanes(builder, count)
    for part, pairs in enumerate(_pieces(builder, halves)):
        pointer = _pointer(context, builder, signature, args, 6, builder.add(at, builder.mul(piece, _long(part))))
        _store(builder, pairs, pointer, mask, _WORDS)
    return _split_flags(builder, halves)


@intrinsic
def split_full_pairs(typingctx, x, low_at, high_at, pairs, at, piece):
    """split_pairs of two full vectors of adjacent numbers."""
    i64 = types.int64
    return i64(x, i64, i64, pairs, i64, i64), _emit_split_full


def _emit_split_full(context, builder, signature, args):
    _, low_at, high_at, _, at, piece = args
    halves = []
    for start in (low_at, high_at):
        pointer = _pointer(context, builder, signature, args, 0, start)
        halves.append(builder.load(builder.bitcast(pointer, _FLOATS.as_pointer())))
        halves[-1].align = 4
    for part, pairs in enumerate(_pieces(builder, halves)):
        pointer = _pointer(context, builder, signature, args, 3, builder.add(at, builder.mul(piece, _long(part))))
        builder.store(pairs, builder.bitcast(pointer, _WORDS.as_pointer())).align = 4
    return _split_flags(builder, halves)


def _pieces(builder, halves):
    """The three vectors of pairs of two vectors."""
    for _ in range(PIECES):
        rounded = [_rounded(builder, x) for x in halves]
        low, high = (builder.bitcast(x, _WORDS) for x in rounded)
        yield builder.or_(builder.lshr(low, _words(16)), high)
        halves = [builder.fsub(x, y) for x, y in zip(halves, rounded, strict=True)]


def _rounded(builder, x):
    """x rounded to bfloat16, to the nearest, ties to even: the low half of its word is zero.

    By integers: the compiler may take differences of floats apart. Some NaN become numbers.
    """
    word = builder.bitcast(x, _WORDS)
    odd = builder.and_(builder.lshr(word, _words(16)), _words(1))
    return builder.bitcast(
        builder.and_(builder.add(builder.add(word, odd), _words(0x7FFF)), _words(_HIGH_HALF)), _FLOATS
    )


def _split_flags(builder, halves):
    """NOT_FINITE and TINY where a number is."""
    words = [_magnitude(builder, x) for x in halves]
    infinite = [builder.icmp_unsigned(">=", word, _words(_INFINITY)) for word in words]
    # One less makes zero the largest of all.
    tiny = [builder.icmp_unsigned("<", builder.sub(word, _words(1)), _words(_TINY_FACTOR - 1)) for word in words]
    return builder.or_(_flag(builder, builder.or_(*infinite), NOT_FINITE), _flag(builder, builder.or_(*tiny), TINY))


@intrinsic
def write_sums(typingctx, sums, sums_at, added, added_at, spread, y, y_at, count, relu):
    """Add a bias to finished sums, apply ReLU if asked, and write them.

    Args:
        sums, sums_at: Flat float32 array, and where the first sum lies.
        added, added_at, spread: Flat float32 array of biases, and where the first lies: spread 1 has one for each sum,
            0 the same for all.
        y, y_at: Flat float32 array, and where the first result is written.
        count: How many, 1 to 16.
        relu: Whether what is below zero becomes zero.

    Returns:
        NOT_FINITE and TINY (zeros count as tiny), combined, as int64.
    """
    i64 = types.int64
    signature = i64(sums, i64, added, i64, i64, y, i64, i64, types.boolean)
    return signature, _emit_write


def _emit_write(context, builder, signature, args):
    _, sums_at, _, added_at, spread, _, y_at, count, relu = args
    mask = _first_lanes(builder, count)
    total = _load(builder, _pointer(context, builder, signature, args, 0, sums_at), mask, _FLOATS)
    bias = _gathered(builder, _pointer(context, builder, signature, args, 2, added_at), count, spread)
    total = builder.fadd(total, bias)
    word = _magnitude(builder, total)
    tiny = builder.and_(builder.icmp_unsigned("<", word, _words(_TINY_SUM)), mask)
    infinite = builder.icmp_unsigned(">=", word, _words(_INFINITY))
    infinite = builder.and_(infinite, mask)
    flags = builder.or_(_flag(builder, infinite, NOT_FINITE), _flag(builder, tiny, TINY))
    below = builder.and_(builder.fcmp_ordered("<", total, ir.Constant(_FLOATS, [0.0] * LANES)), _all(builder, relu))
    total = builder.select(below, ir.Constant(_FLOATS, [0.0] * LANES), total)
    _store(builder, total, _pointer(context, builder, signature, args, 5, y_at), mask, _FLOATS)
    return flags


@intrinsic
def transpose(typingctx, source, at, row, target, target_at, target_row):
    """target[j, i] = source[i, j] for 16 rows and columns of 4-byte elements.

    Args:
        source, at, row: Flat array, where the first row begins, and elements from one row to the next.
        target, target_at, target_row: Likewise, what is written.
    """
    i64 = types.int64
    return types.void(source, i64, i64, target, i64, i64), _emit_transpose


def _emit_transpose(context, builder, signature, args):
    _, at, row, _, target_at, target_row = args

    def line(array, start, pitch, i):
        offset = builder.add(start, builder.mul(pitch, _long(i)))
        return builder.bitcast(_pointer(context, builder, signature, args, array, offset), _WORDS.as_pointer())

    lines = [builder.load(line(0, at, row, i)) for i in range(LANES)]
    for load in lines:
        load.align = 4
    order = ir.VectorType(_I32, LANES)
    for distance in (1, 2, 4, 8):  # swap what lies off the diagonal of blocks of twice that size
        above = [j + LANES - distance if j & distance else j for j in range(LANES)]
        below = [j + LANES if j & distance else j + distance for j in range(LANES)]
        for i in range(LANES):
            if not i & distance:
                pair = lines[i], lines[i + distance]
                lines[i] = builder.shuffle_vector(*pair, ir.Constant(order, above))
                lines[i + distance] = builder.shuffle_vector(*pair, ir.Constant(order, below))
    for i, value in enumerate(lines):
        builder.store(value, line(3, target_at, target_row, i)).align = 4
    return context.get_dummy_value()


def _gathered(builder, pointer, count, stride):
    """A vector of `count` numbers, zeros behind them: one load where they are adjacent."""
    mask = _first_lanes(builder, count)
    function = builder.function
    adjacent, apart, done = (function.append_basic_block(f"split_{n}") for n in ("adjacent", "apart", "done"))
    builder.cbranch(builder.icmp_signed("==", stride, _long(1)), adjacent, apart)
    builder.position_at_end(adjacent)
    one = _load(builder, pointer, mask, _FLOATS)
    builder.branch(done)
    builder.position_at_end(apart)
    steps = builder.mul(_spread(builder, stride, _LONGS), ir.Constant(_LONGS, list(range(LANES))))
    start = _spread(builder, builder.ptrtoint(pointer, _I64), _LONGS)
    places = builder.add(start, builder.mul(steps, ir.Constant(_LONGS, [4] * LANES)))
    places = builder.inttoptr(places, ir.VectorType(_F32.as_pointer(), LANES))
    zeros = ir.Constant(_FLOATS, [0.0] * LANES)
    gather = _function(builder, "llvm.masked.gather.v16f32.v16p0", _FLOATS, [places.type, _I32, _BITS, _FLOATS])
    other = builder.call(gather, [places, ir.Constant(_I32, 4), mask, zeros])
    builder.branch(done)
    builder.position_at_end(done)
    value = builder.phi(_FLOATS)
    value.add_incoming(one, adjacent)
    value.add_incoming(other, apart)
    return value


def _magnitude(builder, x):
    return builder.and_(builder.bitcast(x, _WORDS), _words(_MAGNITUDE))


def _flag(builder, lanes, flag):
    """The flag if any lane is set."""
    mask = builder.bitcast(lanes, ir.IntType(LANES))
    found = builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))
    return builder.select(found, _long(flag), _long(0))


def _first_lanes(builder, count):
    return builder.icmp_signed("<", ir.Constant(_LONGS, list(range(LANES))), _spread(builder, count, _LONGS))


def _all(builder, bit):
    return _spread(builder, builder.trunc(bit, _BIT) if bit.type != _BIT else bit, _BITS)


def _spread(builder, value, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    order = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)


def _load(builder, pointer, mask, vector):
    zeros = ir.Constant(vector, [0.0] * LANES)
    function = _function(builder, "llvm.masked.load.v16f32.p0", vector, [vector.as_pointer(), _I32, _BITS, vector])
    return builder.call(function, [builder.bitcast(pointer, vector.as_pointer()), ir.Constant(_I32, 4), mask, zeros])


def _store(builder, value, pointer, mask, vector):
    suffix = "f32" if vector is _FLOATS else "i32"
    name, arguments = f"llvm.masked.store.v16{suffix}.p0", [vector, vector.as_pointer(), _I32, _BITS]
    function = _function(builder, name, ir.VoidType(), arguments)
    builder.call(function, [value, builder.bitcast(pointer, vector.as_pointer()), ir.Constant(_I32, 4), mask])


def _function(builder, name, result, arguments):
    module = builder.function.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def _pointer(context, builder, signature, args, array, offset):
    return builder.gep(context.make_array(signature.args[array])(context, builder, args[array]).data, [offset])


def _words(value):
    return ir.Constant(_WORDS, [value] * LANES)


def _long(value):
    return ir.Constant(_I64, value)


@intrinsic
def low_number(typingctx, word):
    """The low half of a pair as float32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.shl(args[0], ir.Constant(_I32, 16)), _F32)

    return types.float32(types.int32), codegen


@intrinsic
def high_number(typingctx, word):
    """The high half of a pair as float32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.and_(args[0], ir.Constant(_I32, _HIGH_HALF)), _F32)

    return types.float32(types.int32), codegen
