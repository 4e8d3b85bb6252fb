"""Depthwise convolution of channels-last arrays whose pixels are at least one vector of channels, in place."""

import numpy as np

from fastconv.cpu.conv_depthwise_plan import PHASE, list_rows, list_runs, pixels_of
from fastconv.cpu.conv_depthwise_strip import LONG, RUN, SHORT, lanes_of, strip_long, strip_short
from fastconv.cpu.conv_patches import ceil_div
from fastconv.cpu.jit import kernel


@kernel
def depthwise_last(first, last, x, w, y, shape, plan, walk, relu):
    """y of x and packed w; a task is a band of rows of one image, of all channels."""
    lanes = lanes_of(x)
    phases = plan.phases
    channels = shape.filters
    blocks = ceil_div(channels, lanes)
    block_size = (plan.order.size + 1) * lanes
    row_pitch = shape.size[2] * channels
    slice_pitch = shape.size[1] * row_pitch
    list_size = 2 * plan.most_rows + 1
    lists = np.empty(walk.band[1] * list_size, np.int64)
    runs = np.empty(RUN * plan.most_runs + 1, np.int64)
    for task in range(first, last):
        image = task // (walk.count[0] * walk.count[1] * walk.count[2])
        depth = task // (walk.count[1] * walk.count[2]) % walk.count[0]
        h_first = task // walk.count[2] % walk.count[1] * walk.band[1]
        w_first = task % walk.count[2] * walk.band[2]
        h_last, w_last = min(shape.output[1], h_first + walk.band[1]), min(shape.output[2], w_first + walk.band[2])
        source = image * shape.size[0] * slice_pitch
        for f in range(0, phases.size, PHASE):
            o, o_last = pixels_of(depth, depth + 1, f, 0, phases)
            p_first, p_last = pixels_of(h_first, h_last, f, 1, phases)
            q_first, q_last = pixels_of(w_first, w_last, f, 2, phases)
            if o >= o_last or p_first >= p_last:
                continue
            for p in range(p_first, p_last):
                at = (p - p_first) * list_size
                list_rows(lists, at, plan, f, o, p, shape.size, slice_pitch, row_pitch, 0, 0, lanes)
            step = phases[f + 11]
            y_pitch, y_next = phases[f + 8] * channels, phases[f + 7] * shape.output[2] * channels
            for q in range(q_first, q_last, LONG):
                valid = min(LONG, q_last - q)
                pixels = LONG if valid > SHORT else SHORT
                count = list_runs(runs, plan, f, q * step, shape.size[2], channels, lanes, pixels)
                for near in range(0, blocks, walk.near):
                    for p in range(p_first, p_last):
                        at = (p - p_first) * list_size
                        row = (image * shape.output[0] + depth) * shape.output[1] + phases[f + 4] + p * phases[f + 7]
                        target = (row * shape.output[2] + phases[f + 5] + q * phases[f + 8]) * channels
                        for block in range(near, min(blocks, near + walk.near)):
                            c = min(block * lanes, channels - lanes)
                            x_at, w_at, y_at = source + c, block * block_size, target + c
                            if valid > SHORT:
                                strip_long(x, x_at, step * channels, lists, at, runs, count,
                                           w, w_at, y, y_at, y_pitch, y_next, valid, relu)  # fmt: skip
                            else:
                                strip_short(x, x_at, step * channels, lists, at, runs, count,
                                            w, w_at, y, y_at, y_pitch, y_next, valid, relu)  # fmt: skip
