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
    for i in range(lanes):
        plane = min(start + i, shape.batch * shape.filters - 1)
        image, f = plane // shape.filters, plane % shape.filters
        channel = f // shape.multiplier
        if form == FIRST:
            planes[i] = (image * shape.channels + channel) * positions_in
            planes[lanes + i] = plane * positions_out
        else:
            planes[i] = image * positions_in * shape.channels + channel
            planes[lanes + i] = image * positions_out * shape.filters + f
    return low, high


@kernel
def copy_box(copy, copy_at, x, planes, box, shape, form):
    """copy[pixel, lane] = input positions box[6:12] of a block of planes."""
    lanes = lanes_of(x)
    rows, columns = box[9] - box[8], box[11] - box[10]
    whole = columns == shape.size[2]
    pitch = 1 if form == FIRST else shape.channels
    length = rows * columns if whole else columns
    for d in range(box[7] - box[6]):
        for h in range(1 if whole else rows):
            target = copy_at + (d * rows + h) * columns * lanes
            at = (((box[6] + d) * shape.size[1] + box[8] + h) * shape.size[2] + box[10]) * pitch
            if pitch == 1 and length >= lanes:
                for i in range(0, length, lanes):
                    j = min(i, length - lanes)
                    transpose_in(x, planes, at + j, copy, target + j * lanes)
            else:
                for i in range(length):
                    for lane in range(lanes):
                        put(copy, target + i * lanes + lane, get(x, planes[lane] + at + i * pitch))


@kernel
def turn_back(results, results_at, y, planes, box, shape, form, low, high):
    """Write the results [pixel, lane] of a box to the planes of lanes low to high."""
    lanes = lanes_of(results)
    rows, columns = box[3] - box[2], box[5] - box[4]
    whole = columns == shape.output[2]
    pitch = 1 if form == FIRST else shape.filters
    length = rows * columns if whole else columns
    for d in range(box[1] - box[0]):
        for h in range(1 if whole else rows):
            source = results_at + (d * rows + h) * columns * lanes
            at = (((box[0] + d) * shape.output[1] + box[2] + h) * shape.output[2] + box[4]) * pitch
            if pitch == 1 and length >= lanes:
                for i in range(0, length, lanes):
                    j = min(i, length - lanes)
                    transpose_out(results, source + j * lanes, y, planes, at + j, low, high)
            else:
                for i in range(length):
                    for lane in range(low, high):
                        put(y, planes[lanes + lane] + at + i * pitch, get(results, source + i * lanes + lane))
