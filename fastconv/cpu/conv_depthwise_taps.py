"""The inner loop of the weight gradient of depthwise convolution, written as LLVM IR: channels are the vector lanes.

The sums of a run of taps of one row are SSA values, several to a tap so that additions need not wait for each
other, and stay in registers over all pixels of a box. Pixels come in strips: their errors are loaded once, and
inputs slide over them. Sums have a fixed order, whatever the vector width and the number of threads.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu.conv_depthwise_strip import GROUPS, SHORT, Emitter

# Sums of one tap, of the run sizes GROUPS: with the errors of a strip and an input they fill the registers.
_SUMS = {7: 2, 5: 2, 3: 3 if SHORT > 3 else 2, 2: 4 if SHORT > 3 else 3, 1: SHORT}
STRIP = 4  # numbers that describe a strip
_I64 = ir.IntType(64)


@intrinsic
def add_products(typingctx, x, x_at, stride, dy, dy_at, pitch, pairs, pairs_at, strips, strips_at, taps, sums, sums_at):
    """sums[sums_at + t * lanes + l] += the sum over pixels of x * dy, for the taps t of a run.

    Args:
        x, x_at, stride: The input, what every place in it starts from, and elements from one pixel to the next.
        dy, dy_at, pitch: The same of the gradient of the output.
        pairs, pairs_at: The number of rows of pixels, then the place of each in x and in dy.
        strips, strips_at: The numbers of strips of SHORT pixels and of single ones, then of each its place in x and in
            dy, and the first and the end of the inputs that lie inside the row.
        taps: The size of the run, one of GROUPS.
        sums, sums_at: Where the sums of the run are.
    """
    i64 = types.int64
    signature = types.void(x, i64, i64, dy, i64, i64, pairs, i64, strips, i64, i64, sums, i64)
    return signature, _emit


def _emit(context, builder, signature, args):
    e = Emitter(context, builder, signature, args, 0)
    _, x_at, stride, _, dy_at, pitch, _, pairs_at, _, strips_at, taps, _, sums_at = args
    starts = ((0, x_at), (3, dy_at), (6, pairs_at), (8, strips_at), (11, sums_at))
    x, dy, pairs, strips, sums = (e.start(argument, at) for argument, at in starts)
    after = builder.append_basic_block("products_done")
    sizes = builder.switch(taps, after)
    for group in GROUPS:
        begin = builder.append_basic_block(f"products{group}")
        sizes.add_case(_I64(group), begin)
        builder.position_at_end(begin)
        parts = [e.slots(_SUMS[group]) for _ in range(group)]
        for place in (place for part in parts for place in part):
            builder.store(e.zeros(), place)
        with e.counted(builder.load(pairs)) as row:
            pair = e.move(pairs, 1, builder.mul(row.index, _I64(2)))
            x_row, dy_row = e.move(x, builder.load(pair)), e.move(dy, builder.load(e.move(pair, 1)))
            whole = builder.load(strips)
            for length, first, count in ((SHORT, _I64(0), whole), (1, whole, builder.load(e.move(strips, 1)))):
                with e.counted(count) as loop:
                    strip = e.move(strips, 2, builder.mul(builder.add(first, loop.index), _I64(STRIP)))
                    x_place, dy_place, low, high = (builder.load(e.move(strip, i)) for i in range(STRIP))
                    place = e.move(dy_row, dy_place)
                    _emit_strip(e, length, group, parts, e.move(x_row, x_place), stride, place, pitch, low, high)
        for t, part in enumerate(parts):
            values = [builder.load(place) for place in part]
            while len(values) > 1:
                values = [builder.fadd(*pair) for pair in zip(values[::2], values[1::2], strict=False)] + (
                    values[-1:] if len(values) % 2 else []
                )
            target = e.move(sums, t * e.lanes)
            e.store(builder.fadd(e.load(target), values[0]), target)
        builder.branch(after)
    builder.position_at_end(after)
    return context.get_dummy_value()


def _emit_strip(e, length, group, parts, x, stride, dy, pitch, low, high):
    """Add the products of a strip; its code is entered at the first input inside the row and left after the last."""
    builder = e.builder
    errors = [e.load(e.move(dy, builder.mul(pitch, _I64(u)))) for u in range(length)]
    after = builder.append_basic_block("strip_done")
    blocks = [builder.append_basic_block(f"products{group}_input{j}") for j in range(length + group - 1)]
    entries = builder.switch(low, blocks[0])
    for j, block in enumerate(blocks):
        if j > 0:
            entries.add_case(_I64(j), block)
        builder.position_at_end(block)
        value = e.load(e.move(x, builder.mul(stride, _I64(j))))
        for t in range(group):
            if 0 <= j - t < length:
                place = parts[t][(j - t) % len(parts[t])]
                builder.store(e.fma(errors[j - t], value, builder.load(place)), place)
        if j + 1 == len(blocks):
            builder.branch(after)
        else:
            builder.cbranch(builder.icmp_signed("==", high, _I64(j + 1)), after, blocks[j + 1])
    builder.position_at_end(after)
