"""The inner loops of depthwise convolution, written as LLVM IR: channels are the vector lanes.

A strip is a few adjacent pixels of one row and one vector of channels. Its sums are SSA values, so LLVM keeps
them in registers over all taps. Taps come in groups: the inputs that a group reads slide over the pixels of the
strip, so that each is loaded once and multiplied by every tap of the group. Each sum is one chain of fused
multiply-adds in the order of the taps, so results do not depend on how a row is cut into strips.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastconv.cpu.microkernel import TILE

_MANY_REGISTERS = TILE.rows * TILE.vectors > 16
LONG, SHORT = (14, 7) if _MANY_REGISTERS else (6, 3)  # pixels of a strip
GROUPS = (7, 5, 3, 2, 1) if _MANY_REGISTERS else (3, 2, 1)  # taps; the largest is one register each, beside the sums
LANE_BYTES = TILE.vector_bits // 8
RUN = 5  # numbers that describe a run of taps
_I64 = ir.IntType(64)


class Emitter:
    """Vectors of the element type of an array, and addresses of it, in the code of one intrinsic."""

    def __init__(self, context, builder, signature, args, array):
        self.context, self.builder, self.signature, self.args = context, builder, signature, args
        dtype = signature.args[array].dtype
        self.scalar, suffix, self.size = (
            (ir.FloatType(), "f32", 4) if dtype == types.float32 else (ir.DoubleType(), "f64", 8)
        )
        self.lanes = LANE_BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)
        module = builder.function.module
        name = f"llvm.fma.v{self.lanes}{suffix}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self._fma = module.globals.get(name) or ir.Function(module, kind, name)

    def start(self, argument, *offsets):
        """Address of an element of an array argument; offsets are added up."""
        array = self.context.make_array(self.signature.args[argument])(self.context, self.builder, self.args[argument])
        return self.move(array.data, *offsets)

    def move(self, pointer, *offsets):
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset if isinstance(offset, ir.Value) else _I64(offset)])
        return pointer

    def load(self, pointer):
        value = self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()))
        value.align = self.size  # rows start anywhere
        return value

    def store(self, value, pointer):
        store = self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()))
        store.align = self.size

    def prefetch(self, pointer, write):
        """Fetch the cache line of an address that may be any, for it is read or written before long."""
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        module = self.builder.function.module
        call = module.globals.get("llvm.prefetch.p0") or ir.Function(module, kind, "llvm.prefetch.p0")
        self.builder.call(call, [self.builder.bitcast(pointer, byte), i32(int(write)), i32(3), i32(1)])

    def fma(self, a, b, c):
        return self.builder.call(self._fma, [a, b, c])

    def zeros(self):
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def slots(self, count):
        """Places for sums in the frame of the function, which LLVM turns into registers."""
        return [cgutils.alloca_once(self.builder, self.vector) for _ in range(count)]

    def spread(self, value):
        """A vector of one number."""
        index = ir.VectorType(ir.IntType(32), self.lanes)
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), value, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(index, [0] * self.lanes))

    def counted(self, count):
        """A loop over 0 to count, its index."""
        return cgutils.for_range(self.builder, count, intp=_I64)


def _strip(length):
    @intrinsic
    def strip(
        typingctx, x, x_at, stride, rows, rows_at, runs, run_count, w, w_at, y, y_at, y_pitch, y_next, valid, relu
    ):  # fmt: skip
        """y = w[w_at] + the sum over rows and runs of taps of one strip, one vector of channels.

        Args:
            x, x_at, stride: The input, what every place in it starts from, and elements from one pixel to the next.
            rows, rows_at: The number of rows of taps, then the place of each in x and in w.
            runs, run_count: For each run of taps in a row its place in x and in w, its size, one of GROUPS, and the
                first and the end of the inputs that lie inside the row.
            w, w_at: Filters, and the vector to start from; one a tap follows.
            y, y_at, y_pitch, valid: The output, and how many pixels of the strip are written.
            y_next: From there to what will be written before long.
            relu: Whether max(y, 0) is written.
        """
        i64 = types.int64
        signature = types.void(x, i64, i64, rows, i64, runs, i64, w, i64, y, i64, i64, i64, i64, types.boolean)
        return signature, _emit_strip(length)

    return strip


def _emit_strip(length):
    def emit(context, builder, signature, args):
        e = Emitter(context, builder, signature, args, 0)
        _, x_at, stride, _, rows_at, _, run_count, _, w_at, _, y_at, y_pitch, y_next, valid, relu = args
        sums = e.slots(length)
        first = e.load(e.start(7, w_at))
        for place in sums:
            builder.store(first, place)
        x, w = e.start(0, x_at), e.start(7, w_at)
        rows = e.start(3, rows_at)
        with e.counted(builder.load(rows)) as row:
            entry = e.move(rows, 1, builder.mul(row.index, _I64(2)))
            x_row, w_row = e.move(x, builder.load(entry)), e.move(w, builder.load(e.move(entry, 1)))
            with e.counted(run_count) as run:
                entry = e.start(5, builder.mul(run.index, _I64(RUN)))
                place, tap, taps, low, high = (builder.load(e.move(entry, i)) for i in range(RUN))
                _emit_run(e, length, sums, e.move(x_row, place), stride, e.move(w_row, tap), taps, low, high)
        _emit_results(e, length, sums, e.start(9, y_at), y_pitch, y_next, valid, relu)
        return context.get_dummy_value()

    return emit


def _emit_run(e, length, sums, x, stride, w, taps, low, high):
    """Add the products of a run of taps: every input is loaded once and multiplied by all of them.

    Inputs outside the row are left out: the code is entered at the first and left after the last inside.
    """
    builder = e.builder
    after = builder.append_basic_block("run_done")
    sizes = builder.switch(taps, after)
    for group in GROUPS:
        begin = builder.append_basic_block(f"taps{group}")
        sizes.add_case(_I64(group), begin)
        builder.position_at_end(begin)
        filters = [e.load(e.move(w, t * e.lanes)) for t in range(group)]
        blocks = [builder.append_basic_block(f"taps{group}_input{j}") for j in range(length + group - 1)]
        entries = builder.switch(low, blocks[0])
        for j, block in enumerate(blocks):
            if j > 0:
                entries.add_case(_I64(j), block)
            builder.position_at_end(block)
            value = e.load(e.move(x, builder.mul(stride, _I64(j))))
            for t in range(group):
                if 0 <= j - t < length:
                    builder.store(e.fma(filters[t], value, builder.load(sums[j - t])), sums[j - t])
            if j + 1 == len(blocks):
                builder.branch(after)
            else:
                builder.cbranch(builder.icmp_signed("==", high, _I64(j + 1)), after, blocks[j + 1])
    builder.position_at_end(after)


def _emit_results(e, length, sums, target, y_pitch, y_next, valid, relu):
    builder = e.builder
    floor = e.spread(builder.select(relu, ir.Constant(e.scalar, 0.0), ir.Constant(e.scalar, float("-inf"))))
    values = []
    for place in sums:
        value = builder.load(place)
        values.append(builder.select(builder.fcmp_ordered("<", value, floor), floor, value))  # NaN stays
    with builder.if_else(builder.icmp_signed(">=", valid, _I64(length)), likely=True) as (whole, part):
        with whole:
            pointer, ahead = target, e.move(target, y_next)
            for value in values:
                e.store(value, pointer)
                e.prefetch(ahead, write=True)
                pointer, ahead = e.move(pointer, y_pitch), e.move(ahead, y_pitch)
        with part:
            kept = cgutils.alloca_once(builder, ir.ArrayType(e.vector, length))
            for i, value in enumerate(values):
                builder.store(value, builder.gep(kept, [_I64(0), _I64(i)]))
            with e.counted(valid) as loop:
                value = builder.load(builder.gep(kept, [_I64(0), loop.index]))
                e.store(value, e.move(target, builder.mul(loop.index, y_pitch)))


strip_long, strip_short = _strip(LONG), _strip(SHORT)


@intrinsic
def lanes_of(typingctx, array):
    """Elements of a vector of the dtype of this array, a constant in compiled code."""

    def codegen(context, builder, signature, args):
        return _I64(LANE_BYTES // (4 if signature.args[0].dtype == types.float32 else 8))

    return types.int64(array), codegen


@intrinsic
def fetch(typingctx, array, at, length, write):
    """Bring `length` elements from a place that may be any near: they are read, or written, before long."""

    def codegen(context, builder, signature, args):
        e = Emitter(context, builder, signature, args, 0)
        line, start = 64 // e.size, e.start(0, args[1])
        count = builder.sdiv(builder.add(args[2], _I64(2 * line - 1)), _I64(line))
        with builder.if_else(args[3]) as (writes, reads):
            for block, kind in ((writes, True), (reads, False)):
                with block, e.counted(count) as loop:
                    e.prefetch(e.move(start, builder.mul(loop.index, _I64(line))), write=kind)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.boolean), codegen


@intrinsic
def transpose_in(typingctx, x, planes, planes_at, at, out, out_at):
    """out[out_at + i * lanes + l] = x[planes[planes_at + l] + at + i], for as many pixels i as lanes l."""

    def codegen(context, builder, signature, args):
        e = Emitter(context, builder, signature, args, 0)
        planes = e.start(1, args[2])
        rows = [e.load(e.start(0, args[3], builder.load(e.move(planes, i)))) for i in range(e.lanes)]
        target = e.start(4, args[5])
        for i, row in enumerate(_transposed(e, rows)):
            e.store(row, e.move(target, i * e.lanes))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(x, planes, i64, i64, out, i64), codegen


@intrinsic
def transpose_out(typingctx, source, source_at, y, planes, at, low, high):
    """y[planes[lanes + l] + at + i] = source[source_at + i * lanes + l] for the lanes l from low to high."""

    def codegen(context, builder, signature, args):
        e = Emitter(context, builder, signature, args, 0)
        planes, start = e.start(3, e.lanes), e.start(0, args[1])
        rows = [e.load(e.move(start, i * e.lanes)) for i in range(e.lanes)]
        rows = _transposed(e, rows)
        every = builder.and_(
            builder.icmp_signed("==", args[5], _I64(0)), builder.icmp_signed("==", args[6], _I64(e.lanes))
        )
        with builder.if_else(every, likely=True) as (whole, part):
            with whole:
                for i, row in enumerate(rows):
                    e.store(row, e.start(2, args[4], builder.load(e.move(planes, i))))
            with part:
                for i, row in enumerate(rows):
                    wanted = builder.and_(
                        builder.icmp_signed("<=", args[5], _I64(i)), builder.icmp_signed("<", _I64(i), args[6])
                    )
                    with builder.if_then(wanted):
                        e.store(row, e.start(2, args[4], builder.load(e.move(planes, i))))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, y, planes, i64, i64, i64), codegen


def _transposed(e, rows):
    """A square of vectors, turned: as many rounds of interleaving its halves as it takes to come round."""
    half, index = e.lanes // 2, ir.VectorType(ir.IntType(32), e.lanes)
    low = ir.Constant(index, [i // 2 + i % 2 * e.lanes for i in range(e.lanes)])
    high = ir.Constant(index, [half + i // 2 + i % 2 * e.lanes for i in range(e.lanes)])
    for _ in range(e.lanes.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [e.builder.shuffle_vector(a, b, part) for a, b in pairs for part in (low, high)]
    return rows
