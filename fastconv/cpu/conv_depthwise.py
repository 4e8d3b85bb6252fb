"""Depthwise convolution, one input channel a group, directly: a GEMM would have nothing to reuse.

Channels are the vector lanes in both memory formats. Channels last is read and written where it lies. Channels first,
and channels last whose channels are too few for a vector or feed several filters, goes box by box: what a box of
pixels of one vector of planes reads is turned into pixels of channels in scratch memory, and its results are turned
back. Filter f reads channel f // multiplier.
"""

import math
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_activation import activate
from fastconv.cpu.conv_depthwise_copy import copy_box, planes_of, turn_back
from fastconv.cpu.conv_depthwise_last import depthwise_last
from fastconv.cpu.conv_depthwise_plan import (
    FIRST,
    LAST,
    LEAST,
    MOST,
    PHASE,
    ROW_COUNT,
    ROWS,
    RUN_COUNT,
    Cut,
    Plan,
    Shape,
    Walk,
    cut_of,
    form_of,
    list_rows,
    list_runs,
    pixels_of,
    plan_of,
    reach_of,
    shape_of,
    walk_of,
)
from fastconv.cpu.conv_depthwise_strip import LANE_BYTES, LONG, RUN, SHORT, fetch, lanes_of, strip_long, strip_short
from fastconv.cpu.jit import aligned_start, get, kernel, put
from fastconv.cpu.threads import parallel_for

# Multiply-adds in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread.
SPEED = 30
_FETCHED = 1 << 13  # elements of a block of planes that the L1 cache has room for beside its copy


class Problem(NamedTuple):
    """All that is known of a call before its arrays are."""

    shape: Shape
    plan: Plan
    form: int
    cut: Cut | Walk
    starts: np.ndarray  # first filter of each block of filters
    packed: int  # elements of the packed filters
    tasks: int
    work: float  # nanoseconds of one thread, about


def problem_of(phases, last, itemsize):
    """The Problem of the phases [(Sampling, offsets, taps)] of one result."""
    shape, plan = shape_of(phases[0][0]), plan_of(phases)
    lanes = LANE_BYTES // itemsize
    form, starts, reach = form_of(shape, lanes, last), starts_of(shape.filters, lanes), reach_of(plan)
    work = sum(s.taps * math.prod(s.count) for s, _, _ in phases) * shape.batch * shape.filters / SPEED
    if form == LAST:
        cut, blocks = walk_of(shape, reach, len(starts)), shape.batch
    else:
        blocks = blocks_of(shape, lanes)
        cut = cut_of(shape, reach, form, blocks)
    packed = len(starts) * (plan.order.size + 1) * lanes
    return Problem(shape, plan, form, cut, starts, packed, blocks * math.prod(cut.count), work)


def convolve(xs, ws, bs, ys, problem, activation):
    """ys = activation(bs + xs gathered by the taps of ws)."""
    shape, plan, form, cut, starts, size, tasks, work = problem
    packed = np.empty(size, xs.dtype)
    pack(0, len(starts), ws, bs, packed, starts, plan.order, shape.filters, ws.size // shape.filters)
    relu = activation == "relu"
    if form == LAST:
        parallel_for(depthwise_last, tasks, work, xs, packed, ys, shape, plan, cut, relu)
    else:
        parallel_for(depthwise_boxes, tasks, work, xs, packed, ys, shape, plan, cut, form, relu)
    activate(ys, None if relu else activation)


def blocks_of(shape, lanes):
    """How many vectors the filters of a batch are."""
    if shape.filters >= lanes:
        return shape.batch * -(-shape.filters // lanes)
    return -(-shape.batch * shape.filters // lanes)


def starts_of(filters, lanes):
    """The first filter of each block of filters. Fewer than lanes go on with the first filter of the next image."""
    if filters >= lanes:
        starts = [min(f, filters - lanes) for f in range(0, filters, lanes)]
    else:
        starts = [b * lanes % filters for b in range(filters // math.gcd(filters, lanes))]
    return np.array(starts, np.int64)


@kernel
def pack(first, last, w, bias, packed, starts, order, filters, taps):
    """packed[block, 0, lane] = the bias, packed[block, 1 + i, lane] = tap order[i]; a task is a block of filters."""
    lanes = lanes_of(w)
    for block in range(first, last):
        base = block * (order.size + 1) * lanes
        for i in range(lanes):
            f = (starts[block] + i) % filters
            put(packed, base + i, get(bias, f) if bias.size > 0 else w.dtype.type(0))
            for t in range(order.size):
                put(packed, base + (t + 1) * lanes + i, get(w, f * taps + get(order, t)))


@kernel
def depthwise_boxes(first, last, x, w, y, shape, plan, cut, form, relu):
    """y of x and packed w, by way of scratch memory; a task is a box of pixels of one block of planes."""
    lanes = lanes_of(x)
    phases = plan.phases
    block_size = (plan.order.size + 1) * lanes
    weight_blocks = w.size // block_size
    boxes = cut.count[0] * cut.count[1] * cut.count[2]
    copy = np.empty((cut.rows * cut.pitch + 1) * lanes, x.dtype)
    results = np.empty((cut.band[0] * cut.band[1] * cut.band[2] + 1) * lanes, x.dtype)
    x_at, y_at = aligned_start(copy), aligned_start(results)
    planes = np.empty(2 * lanes, np.int64)
    list_size = 2 * plan.most_rows + 1
    lists = np.empty(cut.band[0] * cut.band[1] * list_size, np.int64)
    runs = np.empty(RUN * plan.most_runs + 1, np.int64)
    box = np.empty(12, np.int64)
    positions_in = shape.size[0] * shape.size[1] * shape.size[2]
    positions_out = shape.output[0] * shape.output[1] * shape.output[2]
    for task in range(first, last):
        block, where = task // boxes, task % boxes
        listed = task > first and boxes == 1 and phases.size == PHASE  # what the last task read is read again
        box[0] = where // (cut.count[1] * cut.count[2]) * cut.band[0]
        box[2] = where // cut.count[2] % cut.count[1] * cut.band[1]
        box[4] = where % cut.count[2] * cut.band[2]
        for axis in range(3):
            box[2 * axis + 1] = min(shape.output[axis], box[2 * axis] + cut.band[axis])
        if not listed:
            find_input(box, shape, plan)
        low, high = planes_of(block, weight_blocks, shape, form, planes, lanes)
        copy_box(copy, x_at, x, planes, 0, box, 6, shape.size, 1 if form == FIRST else shape.channels)
        if form == FIRST and boxes == 1 and copy.size <= _FETCHED:
            for lane in range(lanes):  # planes are short and many, which the processor does not foresee
                fetch(x, planes[lane] + lanes * positions_in, positions_in, False)
                fetch(y, planes[lanes + lane], positions_out, True)
        row_pitch = (box[11] - box[10]) * lanes
        slice_pitch = (box[9] - box[8]) * row_pitch
        y_row = (box[5] - box[4]) * lanes
        y_slice = (box[3] - box[2]) * y_row
        at_w = block % weight_blocks * block_size
        for f in range(0, phases.size, PHASE):
            o_first, o_last = pixels_of(box[0], box[1], f, 0, phases)
            p_first, p_last = pixels_of(box[2], box[3], f, 1, phases)
            q_first, q_last = pixels_of(box[4], box[5], f, 2, phases)
            step, y_pitch = phases[f + 11], phases[f + 8] * lanes
            at = 0
            for o in range(o_first, o_first if listed else o_last):
                for p in range(p_first, p_last):
                    list_rows(lists, at, plan, f, o, p, shape.size, slice_pitch, row_pitch, box[6], box[8], lanes)
                    at += list_size
            for q in range(q_first, q_last, LONG):
                valid = min(LONG, q_last - q)
                pixels = LONG if valid > SHORT else SHORT
                count = list_runs(runs, plan, f, q * step - box[10], box[11] - box[10], lanes, lanes, pixels)
                at = 0
                for o in range(o_first, o_last):
                    for p in range(p_first, p_last):
                        target = y_at + (phases[f + 3] + o * phases[f + 6] - box[0]) * y_slice
                        target += (phases[f + 4] + p * phases[f + 7] - box[2]) * y_row
                        target += (phases[f + 5] + q * phases[f + 8] - box[4]) * lanes
                        if valid > SHORT:
                            strip_long(copy, x_at, step * lanes, lists, at, runs, count,
                                       w, at_w, results, target, y_pitch, 0, valid, relu)  # fmt: skip
                        else:
                            strip_short(copy, x_at, step * lanes, lists, at, runs, count,
                                        w, at_w, results, target, y_pitch, 0, valid, relu)  # fmt: skip
                        at += list_size
        turn_back(results, y_at, y, planes, box, shape.output, 1 if form == FIRST else shape.filters, low, high)


@kernel
def find_input(box, shape, plan):
    """box[6:12] = the input positions that output positions box[0:6] read, without padding."""
    phases, rows = plan.phases, plan.rows
    for axis in range(3):
        box[6 + 2 * axis], box[7 + 2 * axis] = shape.size[axis], 0
    for f in range(0, phases.size, PHASE):
        used = phases[f + ROW_COUNT] > 0 and phases[f + RUN_COUNT] > 0
        for axis in range(3):
            low, high = pixels_of(box[2 * axis], box[2 * axis + 1], f, axis, phases)
            used = used and low < high
        if used:
            for axis in range(3):
                low, high = pixels_of(box[2 * axis], box[2 * axis + 1], f, axis, phases)
                least, most = phases[f + LEAST], phases[f + MOST]
                if axis < 2:
                    least = rows[2 * phases[f + ROWS] + axis]
                    most = rows[2 * (phases[f + ROWS] + phases[f + ROW_COUNT] - 1) + axis]
                step = phases[f + 9 + axis]
                box[6 + 2 * axis] = min(box[6 + 2 * axis], max(0, low * step + least))
                box[7 + 2 * axis] = max(box[7 + 2 * axis], min(shape.size[axis], (high - 1) * step + most + 1))
    for axis in range(3):
        box[7 + 2 * axis] = max(box[6 + 2 * axis], box[7 + 2 * axis])
