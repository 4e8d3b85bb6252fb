"""Tiles of every height and width, so that a product is computed whole and written where it belongs.

    C[i, j] (+)= sum over k of A[i, k] * B[k, j]        i < rows, j < lanes

Rows left over by tiles of full height are taken by lower ones, columns left over by masked ones, so C may be
the output itself. The last slice of a sum adds the bias, and cuts off what is negative where a rectifier
follows. As in gemm_tile each C[i, j] is one chain of fused multiply-adds in the order of k.

Each height and width is a function of its own, which is called: pasted into the loops of a kernel, a dozen
of them would compete for registers and take long to compile.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.microkernel import ROWS, TILE, _scalar

# What a tile does besides multiplying: a sum of these.
ACCUMULATE = 1  # start from what C holds
ADD_COLUMNS = 2  # add added[j] at the end
ADD_ROWS = 4  # add added[i] at the end
RECTIFY = 8  # max(C, 0) at the end, NaN stays
TOUCH = 16  # bring C into the cache before it is written

# No less than the rows of a tile, so that rows side by side are met whole.
AHEAD = 8 if ROWS <= 8 else 16
_HEIGHTS = tuple(sorted({ROWS} | {h for h in (8, 7, 4, 2, 1) if h < ROWS}, reverse=True))


@intrinsic
def gemm_part(
    typingctx,
    rows,
    lanes,
    depth,
    a,
    a_at,
    a_row,
    a_depth,
    b,
    b_at,
    b_depth,
    c,
    c_at,
    c_row,
    d,
    d_at,
    what,
    ahead,
    ahead_at,
    ahead_row,
    ahead_step,
):
    """As gemm_tile for any number of rows up to ROWS and of columns up to a panel; gives how many rows it took.

    Args:
        rows, lanes: Rows and columns of C that are left.
        d, d_at: What ADD_COLUMNS or ADD_ROWS adds; a whole panel of it can be read.
        what: A sum of the constants above.
        ahead, ahead_at, ahead_row, ahead_step: What comes into the cache on the way of a tile of ROWS rows, unless
            ahead_row is 0: step k of the loop brings the line of element ahead_at + (k % AHEAD) * ahead_row +
            (k // AHEAD) * ahead_step.
    """
    i64 = types.int64
    signature = i64(i64, i64, i64, a, i64, i64, i64, b, i64, i64, c, i64, i64, d, i64, i64, ahead, i64, i64, i64)
    return signature, _emit_part


def _emit_part(context, builder, signature, args):
    rows, lanes, depth, _, a_at, a_row, a_depth, _, b_at, b_depth, _, c_at, c_row, _, d_at, what = args[:16]
    ahead_at, ahead_row, ahead_step = args[17:]
    scalar, suffix, size = _scalar(signature.args[10].dtype)
    width = TILE.vector_bits // 8 // size
    i64 = ir.IntType(64)

    def start_of(argument, offset):
        array = context.make_array(signature.args[argument])(context, builder, args[argument])
        return builder.gep(array.data, [offset])

    operands = [
        lanes, depth, start_of(3, a_at), a_row, a_depth, start_of(7, b_at), b_depth, start_of(10, c_at), c_row,
        start_of(13, d_at), what, start_of(16, ahead_at), ahead_row, ahead_step,
    ]  # fmt: skip
    function = builder.function
    done = function.append_basic_block("part_done")
    taken = []
    for height in _HEIGHTS:
        fits, lower = function.append_basic_block("part_fits"), None
        if height > 1:
            lower = function.append_basic_block("part_lower")
            builder.cbranch(builder.icmp_signed(">=", rows, ir.Constant(i64, height)), fits, lower)
        else:
            builder.branch(fits)
        builder.position_at_end(fits)
        wide, narrow = function.append_basic_block("part_wide"), function.append_basic_block("part_narrow")
        builder.cbranch(builder.icmp_signed(">", lanes, ir.Constant(i64, width)), wide, narrow)
        for block, vectors in ((wide, TILE.vectors), (narrow, 1)):
            builder.position_at_end(block)
            builder.call(_tile_function(builder.module, scalar, suffix, size, height, vectors), operands)
            builder.branch(done)
            taken.append((ir.Constant(i64, height), block))
        if lower is not None:
            builder.position_at_end(lower)
    builder.position_at_end(done)
    result = builder.phi(i64)
    for value, block in taken:
        result.add_incoming(value, block)
    return result


def _tile_function(module, scalar, suffix, size, height, vectors):
    """The function of this module that computes a tile of this height and this many vectors."""
    name = f"fastconv_tile_{suffix}_{height}x{vectors}"
    if name in module.globals:
        return module.globals[name]
    i64, pointer = ir.IntType(64), scalar.as_pointer()
    kinds = [i64, i64, pointer, i64, i64, pointer, i64, pointer, i64, pointer, i64, pointer, i64, i64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    lanes, depth, a, a_row, a_depth, b, b_depth, c, c_row, d, what, ahead, ahead_row, ahead_step = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emit = _Emitter(builder, scalar, suffix, size, height, vectors)

    mask = emit.mask(lanes)
    c_tile = [[emit.at(c, builder.mul(c_row, emit.number(i)), j) for j in emit.vectors] for i in emit.rows]
    whole = builder.icmp_signed(">=", lanes, emit.number(vectors * emit.width))

    emit.when_only(what, TOUCH, lambda: [emit.prefetch(place, True) for row in c_tile for place in row])
    # Start from zero, or from C, whole or masked.
    begin = function.append_basic_block("begin")
    read = function.append_basic_block("read")
    starts = [(builder.block, [[emit.zero] * vectors] * height)]
    builder.cbranch(emit.flag(what, ACCUMULATE), read, begin)
    builder.position_at_end(read)
    read_whole, read_masked = function.append_basic_block("read_whole"), function.append_basic_block("read_masked")
    builder.cbranch(whole, read_whole, read_masked)
    for block, load in ((read_whole, emit.load), (read_masked, emit.load_masked)):
        builder.position_at_end(block)
        starts.append((block, [[load(c_tile[i][j], mask[j]) for j in emit.vectors] for i in emit.rows]))
        builder.branch(begin)
    builder.position_at_end(begin)
    initial = emit.join(starts)
    end = function.append_basic_block("end")

    def loop(body, prefetches):
        """The loop over k; gives its sums."""
        builder.position_at_end(body)
        k = builder.phi(i64)
        k.add_incoming(emit.number(0), begin)
        sums = [[builder.phi(emit.vector) for _ in emit.vectors] for _ in emit.rows]
        b_row = builder.gep(b, [builder.mul(k, b_depth)])
        b_vectors = [emit.load(emit.at(b_row, emit.number(0), j)) for j in emit.vectors]
        a_column = builder.gep(a, [builder.mul(k, a_depth)])
        new = []
        for i in emit.rows:
            element = emit.spread(builder.load(builder.gep(a_column, [builder.mul(a_row, emit.number(i))])))
            new.append([builder.call(emit.fma, [element, b_vectors[j], sums[i][j]]) for j in emit.vectors])
        if prefetches:
            emit.prefetch_step(ahead, ahead_row, ahead_step, k)
        following = builder.add(k, emit.number(1))
        k.add_incoming(following, body)
        for i in emit.rows:
            for j in emit.vectors:
                sums[i][j].add_incoming(initial[i][j], begin)
                sums[i][j].add_incoming(new[i][j], body)
        builder.cbranch(builder.icmp_signed("<", following, depth), body, end)
        return body, new

    plain = function.append_basic_block("loop")
    if height == ROWS:
        prefetching = function.append_basic_block("loop_ahead")
        builder.cbranch(builder.icmp_signed("!=", ahead_row, emit.number(0)), prefetching, plain)
        loops = [loop(plain, False), loop(prefetching, True)]
    else:
        builder.branch(plain)
        loops = [loop(plain, False)]
    builder.position_at_end(end)
    new = emit.join(loops)
    sums = emit.when(what, ADD_COLUMNS, new, lambda s: emit.add_columns(s, d))
    sums = emit.when(what, ADD_ROWS, sums, lambda s: emit.add_rows(s, d))
    sums = emit.when(what, RECTIFY, sums, emit.rectify)
    write_whole, write_masked = function.append_basic_block("write_whole"), function.append_basic_block("write_masked")
    builder.cbranch(whole, write_whole, write_masked)
    for block, store in ((write_whole, emit.store), (write_masked, emit.store_masked)):
        builder.position_at_end(block)
        for i in emit.rows:
            for j in emit.vectors:
                store(sums[i][j], c_tile[i][j], mask[j])
        builder.ret_void()
    return function


class _Emitter:
    """Emits the pieces of one tile."""

    def __init__(self, builder, scalar, suffix, size, height, vectors):
        self.builder, self.scalar, self.size = builder, scalar, size
        self.width = TILE.vector_bits // 8 // size
        self.rows, self.vectors = range(height), range(vectors)
        self.vector = ir.VectorType(scalar, self.width)
        self.zero = ir.Constant(self.vector, [0.0] * self.width)
        self._name = f"v{self.width}{suffix}"
        self.fma = self._declare(f"llvm.fma.{self._name}", self.vector, [self.vector] * 3)

    def _declare(self, name, result, arguments):
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

    def number(self, value):
        return ir.Constant(ir.IntType(64), value)

    def at(self, start, offset, vector):
        """Where vector number `vector` of a row begins."""
        place = self.builder.gep(start, [self.builder.add(offset, self.number(vector * self.width))])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def flag(self, what, bit):
        masked = self.builder.and_(what, self.number(bit))
        return self.builder.icmp_signed("!=", masked, self.number(0))

    def mask(self, lanes):
        """For each vector, which of its lanes are among the first `lanes`."""
        i32 = ir.IntType(32)
        kind = ir.VectorType(i32, self.width)
        most = self.number(len(self.vectors) * self.width)
        lanes = self.builder.select(self.builder.icmp_signed("<", lanes, most), lanes, most)
        limit = self._spread(self.builder.trunc(lanes, i32), kind)
        return [
            self.builder.icmp_signed(
                "<", ir.Constant(kind, [v * self.width + lane for lane in range(self.width)]), limit
            )
            for v in self.vectors
        ]

    def spread(self, element):
        return self._spread(element, self.vector)

    def _spread(self, element, kind):
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, element, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def load(self, pointer, mask=None):
        value = self.builder.load(pointer)
        value.align = self.size  # rows start anywhere
        return value

    def store(self, value, pointer, mask=None):
        self.builder.store(value, pointer).align = self.size

    def load_masked(self, pointer, mask):
        kinds = [self.vector.as_pointer(), ir.IntType(32), mask.type, self.vector]
        load = self._declare(f"llvm.masked.load.{self._name}.p0{self._name}", self.vector, kinds)
        return self.builder.call(load, [pointer, ir.Constant(ir.IntType(32), self.size), mask, self.zero])

    def store_masked(self, value, pointer, mask):
        kinds = [self.vector, self.vector.as_pointer(), ir.IntType(32), mask.type]
        store = self._declare(f"llvm.masked.store.{self._name}.p0{self._name}", ir.VoidType(), kinds)
        self.builder.call(store, [value, pointer, ir.Constant(ir.IntType(32), self.size), mask])

    def prefetch(self, pointer, to_write):
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = self._declare("llvm.prefetch.p0i8", ir.VoidType(), [byte, i32, i32, i32])
        what = [ir.Constant(i32, int(to_write)), ir.Constant(i32, 3 if to_write else 2), ir.Constant(i32, 1)]
        self.builder.call(prefetch, [self.builder.bitcast(pointer, byte), *what])

    def prefetch_step(self, start, row, step, k):
        builder = self.builder
        low = builder.mul(builder.and_(k, self.number(AHEAD - 1)), row)
        high = builder.mul(builder.lshr(k, self.number(AHEAD.bit_length() - 1)), step)
        self.prefetch(builder.gep(start, [builder.add(low, high)]), False)

    def when_only(self, what, bit, emit):
        """Emit what happens only where the flag is set."""
        flagged, after = [self.builder.function.append_basic_block(f"only{bit}") for _ in range(2)]
        self.builder.cbranch(self.flag(what, bit), flagged, after)
        self.builder.position_at_end(flagged)
        emit()
        self.builder.branch(after)
        self.builder.position_at_end(after)

    def join(self, arrivals):
        """The vectors of a tile, whichever block they come from."""
        joined = [[self.builder.phi(self.vector) for _ in self.vectors] for _ in self.rows]
        for block, values in arrivals:
            for i in self.rows:
                for j in self.vectors:
                    joined[i][j].add_incoming(values[i][j], block)
        return joined

    def when(self, what, bit, sums, change):
        """change(sums) where the flag is set, otherwise sums."""
        function = self.builder.function
        before, changed, after = self.builder.block, *[function.append_basic_block(f"flag{bit}") for _ in range(2)]
        self.builder.cbranch(self.flag(what, bit), changed, after)
        self.builder.position_at_end(changed)
        other = change(sums)
        self.builder.branch(after)
        self.builder.position_at_end(after)
        return self.join([(before, sums), (changed, other)])

    def add_columns(self, sums, d):
        added = [self.load(self.at(d, self.number(0), j)) for j in self.vectors]
        return [[self.builder.fadd(row[j], added[j]) for j in self.vectors] for row in sums]

    def add_rows(self, sums, d):
        added = [self.spread(self.builder.load(self.builder.gep(d, [self.number(i)]))) for i in self.rows]
        return [[self.builder.fadd(sums[i][j], added[i]) for j in self.vectors] for i in self.rows]

    def rectify(self, sums):
        def cut(value):
            return self.builder.select(self.builder.fcmp_ordered("<", value, self.zero), self.zero, value)

        return [[cut(value) for value in row] for row in sums]


@intrinsic
def copy_run(typingctx, target, target_at, source, source_at, count):
    """target[target_at + i] = source[source_at + i] for all i < count, a vector at a time, the last one masked."""
    i64 = types.int64
    return types.void(target, i64, source, i64, i64), _emit_copy


def _emit_copy(context, builder, signature, args):
    scalar, suffix, size = _scalar(signature.args[0].dtype)

    def start_of(argument):
        array = context.make_array(signature.args[argument])(context, builder, args[argument])
        return builder.gep(array.data, [args[argument + 1]])

    target, source, count = start_of(0), start_of(2), args[4]
    emit = _Emitter(builder, scalar, suffix, size, 1, 2)
    short, long, done = [builder.function.append_basic_block(f"copy_{n}") for n in ("short", "long", "done")]
    if TILE.vector_bits >= 256:  # masks cost nothing there, and calls are dear for the few elements of most runs
        builder.cbranch(builder.icmp_signed("<=", count, emit.number(2 * emit.width)), short, long)
    else:
        builder.branch(long)
    builder.position_at_end(short)
    mask, zero = emit.mask(count), emit.number(0)
    values = [emit.load_masked(emit.at(source, zero, j), mask[j]) for j in emit.vectors]
    for j in emit.vectors:
        emit.store_masked(values[j], emit.at(target, zero, j), mask[j])
    builder.branch(done)
    builder.position_at_end(long)
    builder.call(_copy_function(builder.module, scalar, suffix, size), [target, source, count])
    builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _copy_function(module, scalar, suffix, size):
    """The function of this module that copies a run."""
    name = f"fastconv_copy_{suffix}"
    if name in module.globals:
        return module.globals[name]
    i64, pointer = ir.IntType(64), scalar.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, pointer, i64]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    target, source, count = function.args
    entry, loop, rest, part, done = [function.append_basic_block(n) for n in ("entry", "loop", "rest", "part", "done")]
    builder = ir.IRBuilder(entry)
    emit = _Emitter(builder, scalar, suffix, size, 1, 1)
    whole = builder.and_(count, emit.number(-emit.width))  # elements in whole vectors
    builder.cbranch(builder.icmp_signed(">", whole, emit.number(0)), loop, rest)
    builder.position_at_end(loop)
    i = builder.phi(i64)
    emit.store(emit.load(emit.at(source, i, 0)), emit.at(target, i, 0))
    following = builder.add(i, emit.number(emit.width))
    i.add_incoming(emit.number(0), entry)
    i.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, whole), loop, rest)
    builder.position_at_end(rest)
    builder.cbranch(builder.icmp_signed("<", whole, count), part, done)
    builder.position_at_end(part)
    (mask,) = emit.mask(builder.sub(count, whole))
    emit.store_masked(emit.load_masked(emit.at(source, whole, 0), mask), emit.at(target, whole, 0), mask)
    builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return function
