"""Products of float32 matrices on the tile registers of AMX, which multiply bfloat16.

A float32 number is the exact sum of three bfloat16 numbers, each the nearest to what the ones before it left over.
Of the nine products of two such sums the six largest are added up; the other three are together below 2^-23 of the
product, a rounding error of float32 (Henry, Tang & Heinecke, Leveraging the bfloat16 artificial intelligence datatype
for higher-precision computations, ARITH 2019). Six products of bfloat16 in a tile take less time than one of
float32 in vectors: 524 GFLOP/s in a thread of an Intel Xeon (Sapphire Rapids) whose vectors reach 190.

`multiply_tiles` has two bodies: the instructions, and their exact emulation in plain code, which runs on every machine.
Tiles treat subnormal numbers as zero, and an infinity times a zero piece is no number; who calls must compute
what such numbers reach in another way. Splitting tells by flags what it met.
"""

import ctypes
import functools
import sys

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.jit import exact, target_features
from fastconv.cpu.split import LANES, PIECES, high_number, low_number

# A tile has 16 rows and 16 columns of 4 bytes, the lanes of a vector.
DEPTH = 2 * LANES  # products that a tile sums: a chunk of channels
BLOCK = 2 * LANES  # rows and columns of a result: two tiles each
STEP = PIECES * 2 * LANES * LANES  # pairs of one operand in one step

# Pieces of the first and of the second operand, the order of their products: each changes few tiles of the one before.
_PRODUCTS = ((0, 2), (0, 1), (0, 0), (1, 0), (1, 1), (2, 0))

_SMALLEST_NORMAL = np.float32(2.0**-126)

_LINES = STEP // LANES // len(_PRODUCTS)

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_FEATURES = {"amx-tile", "amx-bf16", "avx512f"}

_I8, _I64, _VOID = ir.IntType(8), ir.IntType(64), ir.VoidType()
_BYTES = _I8.as_pointer()


@functools.cache
def available():
    """Whether this processor has the tiles, Numba compiles for them, and the kernel lets this process use them."""
    if not sys.platform.startswith("linux") or not _compiles():
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


@intrinsic
def open_tiles(typingctx):
    """Configure all eight tiles of this thread as 16 rows of 64 bytes."""

    def codegen(context, builder, signature, args):
        layout = [1] + [0] * 15 + [4 * LANES, 0] * 8 + [0] * 16 + [LANES] * 8 + [0] * 8
        memory = ir.ArrayType(_I8, len(layout))
        slot = builder.alloca(memory)
        builder.store(ir.Constant(memory, bytearray(layout)), slot)
        _call(builder, "ldtilecfg", [builder.bitcast(slot, _BYTES)])
        return context.get_dummy_value()

    return types.void(), codegen if _compiles() else _nothing


@intrinsic
def close_tiles(typingctx):
    """Give the tiles back, so that the system need not save them."""

    def codegen(context, builder, signature, args):
        _call(builder, "tilerelease", [])
        return context.get_dummy_value()

    return types.void(), codegen if _compiles() else _nothing


@intrinsic
def store_sums(typingctx, c):
    """Write the sums of the last multiplication, [32, 32], to a flat float32 array.

    Storing a tile waits for all products before it: what there is to do meanwhile had better be done in between.
    """

    def codegen(context, builder, signature, args):
        start = _start(context, builder, signature, args, 0, ir.Constant(_I64, 0))
        for i in range(2):
            for j in range(2):
                pointer = builder.gep(start, [ir.Constant(_I64, i * LANES * BLOCK + j * LANES)])
                _call(
                    builder,
                    "tilestored64",
                    [_sums(i, j), builder.bitcast(pointer, _BYTES), ir.Constant(_I64, 4 * BLOCK)],
                )
        return context.get_dummy_value()

    return types.void(c), codegen if _compiles() else _nothing


def _sums(i, j):
    """The register of one of the four tiles of sums."""
    return ir.Constant(_I8, 2 * i + j)


@intrinsic
def multiply_tiles(typingctx, steps, table, x, x_at, x_piece, w, w_at):
    """The sums [32, 32] of all steps: rows of x times columns of w, in the tiles of this thread.

    Args:
        steps: How many steps there are, each of 32 products.
        table: Flat int64 array: elements from x_at to the first row of x of each step.
        x, x_at: Flat int32 array of rows of 16 pairs, and where the first row of all steps is counted from.
        x_piece: Elements from one piece of x to the next.
        w, w_at: Flat int32 array of steps [piece, half, 16, 16], a row for each pair, and where the first begins.
    """
    i64 = types.int64
    return types.void(i64, table, x, i64, i64, w, i64), _emit if _compiles() else _nothing


def _compiles():
    """Whether the compiler's target has the instructions; the emulation serves where it has not."""
    return target_features() >= _FEATURES


def _nothing(context, builder, signature, args):
    return context.get_dummy_value()


def _call(builder, name, args):
    module, name = builder.function.module, f"llvm.x86.{name}"
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(_VOID, [a.type for a in args]), name)
    builder.call(function, args)


def _prefetch(builder, pointer):
    """Bring a line of memory to the first cache; memory that does not exist does no harm."""
    module, name, word = builder.function.module, "llvm.prefetch.p0", ir.IntType(32)
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(_VOID, [_BYTES, word, word, word]), name)
    builder.call(function, [builder.bitcast(pointer, _BYTES), *(ir.Constant(word, v) for v in (0, 3, 1))])


def _start(context, builder, signature, args, array, offset):
    data = context.make_array(signature.args[array])(context, builder, args[array]).data
    return builder.gep(data, [offset])


def _emit(context, builder, signature, args):
    steps, _, _, _, x_piece, _, _ = args
    x, w = (_start(context, builder, signature, args, i, args[i + 1]) for i in (2, 5))
    table = _start(context, builder, signature, args, 1, ir.Constant(_I64, 0))

    def constant(value):
        return ir.Constant(_I64, value)

    def operand(of_w, half):
        return ir.Constant(_I8, 4 + 2 * of_w + half)

    def load(start, piece, of_w, half):
        if of_w:
            pointer = builder.gep(start, [constant((2 * piece + half) * LANES * LANES)])
        else:
            offset = builder.add(builder.mul(x_piece, constant(piece)), constant(half * LANES * LANES))
            pointer = builder.gep(start, [offset])
        _call(builder, "tileloadd64", [operand(of_w, half), builder.bitcast(pointer, _BYTES), constant(4 * LANES)])

    for i in range(4):
        _call(builder, "tilezero", [ir.Constant(_I8, i)])

    def step(k):
        """All products of one step, while the filters of the next are fetched."""
        x_here = builder.gep(x, [builder.load(builder.gep(table, [k]))])
        w_here = builder.gep(w, [builder.mul(k, constant(STEP))])
        for half in range(2):
            load(x_here, _PRODUCTS[0][0], False, half)
            load(w_here, _PRODUCTS[0][1], True, half)
        for n, (a, b) in enumerate(_PRODUCTS):
            for line in range(n * _LINES, (n + 1) * _LINES):
                _prefetch(builder, builder.gep(w_here, [constant(STEP + line * LANES)]))
            next_a, next_b = _PRODUCTS[n + 1] if n + 1 < len(_PRODUCTS) else (a, b)
            # A tile is loaded anew right after its last use, so that loads run beside products.
            order = [(0, 0), (1, 0), (0, 1), (1, 1)] if next_b != b else [(0, 0), (0, 1), (1, 0), (1, 1)]
            for at, (i, j) in enumerate(order):
                _call(builder, "tdpbf16ps", [_sums(i, j), operand(False, i), operand(True, j)])
                if next_a != a and all(later != i for later, _ in order[at + 1 :]):
                    load(x_here, next_a, False, i)
                if next_b != b and all(later != j for _, later in order[at + 1 :]):
                    load(w_here, next_b, True, j)

    before = builder.block
    loop, done = (builder.function.append_basic_block(f"amx_{n}") for n in ("loop", "done"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_I64)
    k.add_incoming(constant(0), before)
    step(k)
    following = builder.add(k, constant(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
    return context.get_dummy_value()


@exact
def flushed(x):
    """x, but zero where it is subnormal."""
    return x if abs(x) >= _SMALLEST_NORMAL or x != x else np.float32(0)


@exact
def emulate(steps, table, x, x_at, x_piece, w, w_at, c):
    """What multiply_tiles and then store_sums write to c, bit for bit.

    Of a tile's pairs evens and odds are summed apart, each in order, before both join the result; subnormal products
    and sums are zero.
    """
    c[: BLOCK * BLOCK] = 0
    for k in range(steps):
        for first, second in _PRODUCTS:
            for i in range(BLOCK):
                row = x_at + table[k] + first * x_piece + i * LANES
                for j in range(BLOCK):
                    column = w_at + k * STEP + (2 * second + j // LANES) * LANES * LANES + j % LANES
                    evens, odds = np.float32(0), np.float32(0)
                    for pair in range(LANES):
                        one, other = x[row + pair], w[column + pair * LANES]
                        product = flushed(low_number(one)) * flushed(low_number(other))
                        evens = flushed(evens + flushed(product))
                        product = flushed(high_number(one)) * flushed(high_number(other))
                        odds = flushed(odds + flushed(product))
                    at = i * BLOCK + j
                    c[at] = flushed(c[at] + flushed(evens + odds))
