"""What the weight gradient adds to the micro-kernel: tiles that sum over many pieces, transposition in registers."""

import functools

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.conv_winograd_transforms import _planes, _Vectors
from fastconv.cpu.jit import element, inline
from fastconv.cpu.microkernel import ROWS, TILE, _scalar

# Fields of a piece of a sum: its first element of A and of B, its length.
PIECE_FIELDS = 3


# Rows of a tile: what is left over by tiles of full height is taken by the lowest that holds it.
HEIGHTS = (*(h for h in (4, 8) if h < ROWS), ROWS)


@inline
def gemm_pieces(rows, pieces, count, a, a_at, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate):
    """As gemm_tile for A[step, row] and a sum over `count` pieces; sums stay in registers between them.

    Args:
        rows: Rows of C that are wanted, from 1 to ROWS; C has room for ROWS.
        pieces: Flat int64 array of PIECE_FIELDS numbers a piece; no piece is empty.
        count: How many pieces there are, at least 1.
        a, b, c: Flat contiguous arrays of one dtype, float32 or float64.
        a_at, b_at, c_at: Where each operand starts, in elements.
        a_depth, b_depth, c_row: Elements from one step of A, step of B, row of C to the next.
        accumulate: Whether C is added to rather than written.
    """
    if rows <= HEIGHTS[0]:
        _lowest_tile(pieces, count, a, a_at, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate)
    elif rows <= HEIGHTS[-2]:
        _lower_tile(pieces, count, a, a_at, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate)
    else:
        _full_tile(pieces, count, a, a_at, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate)


def _tile(height):
    """gemm_pieces for `height` rows.

    Rows of A lie side by side, so one pointer serves them all. With a pointer a row most would lie on the
    stack: two thirds of the speed.
    """

    def tile(typingctx, pieces, count, a, a_at, a_depth, b, b_at, b_depth, c, c_at, c_row, accumulate):
        i64 = types.int64
        signature = types.void(pieces, i64, a, i64, i64, b, i64, i64, c, i64, i64, types.boolean)
        return signature, functools.partial(_emit_gemm_pieces, height)

    return intrinsic(tile)


_lowest_tile, _lower_tile, _full_tile = _tile(HEIGHTS[0]), _tile(HEIGHTS[-2]), _tile(ROWS)


def _emit_gemm_pieces(height, context, builder, signature, args):
    _, count, _, a_at, a_depth, _, b_at, b_depth, _, c_at, c_row, accumulate = args
    scalar, suffix, size = _scalar(signature.args[8].dtype)
    lanes = TILE.vector_bits // 8 // size
    rows, vectors = range(height), range(TILE.vectors)
    vector = ir.VectorType(scalar, lanes)
    i64, i32 = ir.IntType(64), ir.IntType(32)
    function = builder.function
    undefined = ir.Constant(vector, ir.Undefined)
    spread_mask = ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
    fma = _intrinsic(function.module, f"llvm.fma.v{lanes}{suffix}", vector, [vector] * 3)

    def number(value):
        return ir.Constant(i64, value)

    def start_of(argument, offset):
        return element(context, builder, _Typed(signature.args[argument]), (args[argument], offset))

    def load(pointer):
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = size  # rows start anywhere
        return value

    def grid_of_phis():
        return [[builder.phi(vector) for _ in vectors] for _ in rows]

    def incoming(phis, values, block):
        for i in rows:
            for j in vectors:
                phis[i][j].add_incoming(values[i][j], block)

    first_piece, a_start, b_start, c_start = (
        start_of(0, number(0)), start_of(2, a_at), start_of(5, b_at), start_of(8, c_at)
    )  # fmt: skip
    c_tile = [
        [builder.gep(c_start, [builder.add(builder.mul(c_row, number(i)), number(j * lanes))]) for j in vectors]
        for i in rows
    ]
    before = builder.block
    read_c, begin, piece_loop, loop, piece_end, done = (
        function.append_basic_block(f"pieces_{n}") for n in ("read_c", "begin", "piece", "loop", "piece_end", "done")
    )
    builder.cbranch(accumulate, read_c, begin)

    builder.position_at_end(read_c)
    old = [[load(c_tile[i][j]) for j in vectors] for i in rows]
    builder.branch(begin)

    builder.position_at_end(begin)
    initial = grid_of_phis()
    zeros = [[ir.Constant(vector, [0.0] * lanes)] * TILE.vectors] * height
    incoming(initial, zeros, before)
    incoming(initial, old, read_c)
    builder.branch(piece_loop)

    builder.position_at_end(piece_loop)
    piece = builder.phi(i64)
    piece.add_incoming(number(0), begin)
    at_start = grid_of_phis()
    incoming(at_start, initial, begin)
    fields = [
        builder.load(builder.gep(first_piece, [builder.add(builder.mul(piece, number(PIECE_FIELDS)), number(f))]))
        for f in range(PIECE_FIELDS)
    ]
    a_piece = builder.gep(a_start, [fields[0]])
    b_piece = builder.gep(b_start, [fields[1]])
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(i64)
    k.add_incoming(number(0), piece_loop)
    sums = grid_of_phis()
    incoming(sums, at_start, piece_loop)
    b_step = builder.gep(b_piece, [builder.mul(k, b_depth)])
    b_vectors = [load(builder.gep(b_step, [number(j * lanes)])) for j in vectors]
    a_step = builder.gep(a_piece, [builder.mul(k, a_depth)])
    new = []
    for i in rows:
        value = builder.load(builder.gep(a_step, [number(i)]))
        spread = builder.insert_element(undefined, value, ir.Constant(i32, 0))
        spread = builder.shuffle_vector(spread, undefined, spread_mask)
        new.append([builder.call(fma, [spread, b_vectors[j], sums[i][j]]) for j in vectors])
    following = builder.add(k, number(1))
    k.add_incoming(following, loop)
    incoming(sums, new, loop)
    builder.cbranch(builder.icmp_signed("<", following, fields[2]), loop, piece_end)

    builder.position_at_end(piece_end)
    next_piece = builder.add(piece, number(1))
    piece.add_incoming(next_piece, piece_end)
    incoming(at_start, new, piece_end)
    builder.cbranch(builder.icmp_signed("<", next_piece, count), piece_loop, done)

    builder.position_at_end(done)
    for i in rows:
        for j in vectors:
            store = builder.store(new[i][j], builder.bitcast(c_tile[i][j], vector.as_pointer()))
            store.align = size
    return context.get_dummy_value()


@intrinsic
def transpose_block(typingctx, a, a_at, a_row, rows, columns, b, b_at, b_row):
    """B[j * b_row + i] = A[i * a_row + j] for i < rows, j < columns, both from 1 to as many as there are lanes.

    Nothing else is read or written.
    """

    def codegen(context, builder, signature, args):
        _, a_at, a_row, rows, columns, _, b_at, b_row = args
        vectors = _Vectors(builder, signature.args[0].dtype)
        read, written = vectors.first(columns), vectors.first(rows)
        sources = _planes(context, builder, signature, args, vectors, 0, a_at, a_row, rows)
        targets = _planes(context, builder, signature, args, vectors, 5, b_at, b_row, columns)
        values = vectors.transposed([vectors.load_masked(pointer, read) for pointer in sources])
        # Backwards: what is beyond the columns goes to the last of them, which is then overwritten.
        for value, pointer in list(zip(values, targets, strict=True))[::-1]:
            vectors.store_masked(value, pointer, written)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(a, i64, i64, i64, i64, b, i64, i64), codegen


def _intrinsic(module, name, result, arguments):
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


class _Typed:
    """What `element` reads of a signature."""

    def __init__(self, array):
        self.args = (array,)
