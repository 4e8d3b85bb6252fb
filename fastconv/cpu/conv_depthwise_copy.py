"""Scratch memory of depthwise convolution: boxes of positions of one vector of channels, in and out."""

from fastconv.cpu.conv_depthwise_plan import FIRST
from fastconv.cpu.conv_depthwise_strip import lanes_of, transpose_in, transpose_out
from fastconv.cpu.jit import get, inline, kernel, put


@inline
def planes_of(block, weight_blocks, shape, form, planes, lanes):
    """Write where the lanes of a block start in x, and then in y; give (low, high): which are nobody else's."""
    positions_in = shape.size[0] * shape.size[1] * shape.size[2]
    positions_out = shape.output[0] * shape.output[1] * shape.output[2]
    low, high = 0, lanes
    if shape.filters >= lanes:
        start = min(block % weight_blocks * lanes, shape.filters - lanes)
        low = block % weight_blocks * lanes - start
        start += block // weight_blocks * shape.filters
    else:
        start = block * lanes
        high = min(lanes, shape.batch * shape.filters - start)
    image, f = start // shape.filters, start % shape.filters
    for i in range(lanes):  # divisions take as long as the sums of a small plane
        channel = f if shape.multiplier == 1 else f // shape.multiplier
        if form == FIRST:
            planes[i] = (image * shape.channels + channel) * positions_in
            planes[lanes + i] = (image * shape.filters + f) * positions_out
        else:
            planes[i] = image * positions_in * shape.channels + channel
            planes[lanes + i] = image * positions_out * shape.filters + f
        if i + 1 < high:
            f += 1
            if f == shape.filters:
                image, f = image + 1, 0
    return low, high


@kernel
def copy_box(copy, copy_at, x, planes, planes_at, box, box_at, size, pitch):
    """copy[pixel, lane] = positions box[box_at:] of a block of planes; pitch: elements from a position to the next."""
    lanes = lanes_of(x)
    d0, h0, c0 = box[box_at], box[box_at + 2], box[box_at + 4]
    rows, columns = box[box_at + 3] - h0, box[box_at + 5] - c0
    whole = columns == size[2]
    length = rows * columns if whole else columns
    for d in range(box[box_at + 1] - d0):
        for h in range(1 if whole else rows):
            target = copy_at + (d * rows + h) * columns * lanes
            at = (((d0 + d) * size[1] + h0 + h) * size[2] + c0) * pitch
            if pitch == 1 and length >= lanes:
                for i in range(0, length, lanes):
                    j = min(i, length - lanes)
                    transpose_in(x, planes, planes_at, at + j, copy, target + j * lanes)
            else:
                for i in range(length):
                    for lane in range(lanes):
                        place = planes[planes_at + lane] + at + i * pitch
                        put(copy, target + i * lanes + lane, get(x, place))


@kernel
def turn_back(results, results_at, y, planes, box, size, pitch, low, high):
    """Write the results [pixel, lane] of positions box[0:6] to the planes of lanes low to high."""
    lanes = lanes_of(results)
    rows, columns = box[3] - box[2], box[5] - box[4]
    whole = columns == size[2]
    length = rows * columns if whole else columns
    for d in range(box[1] - box[0]):
        for h in range(1 if whole else rows):
            source = results_at + (d * rows + h) * columns * lanes
            at = (((box[0] + d) * size[1] + box[2] + h) * size[2] + box[4]) * pitch
            if pitch == 1 and length >= lanes:
                for i in range(0, length, lanes):
                    j = min(i, length - lanes)
                    transpose_out(results, source + j * lanes, y, planes, at + j, low, high)
            else:
                for i in range(length):
                    for lane in range(low, high):
                        put(y, planes[lanes + lane] + at + i * pitch, get(results, source + i * lanes + lane))
