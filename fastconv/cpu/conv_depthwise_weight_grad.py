"""Weight gradients of depthwise convolution: for each tap the sum over pixels of what it read times the error.

Pixels are taken in boxes that stay near, and every row of taps walks over a box with its sums in registers. Boxes are
dealt to a number of splits that the shape alone decides; splits are added in their order.
"""

import math
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_depthwise import blocks_of, find_input, starts_of
from fastconv.cpu.conv_depthwise_copy import copy_box, planes_of
from fastconv.cpu.conv_depthwise_plan import (
    COLUMNS,
    FIRST,
    LAST,
    ROW_COUNT,
    RUN_COUNT,
    Cut,
    Plan,
    Shape,
    cut_of,
    form_of,
    plan_of,
    reach_of,
    shape_of,
)
from fastconv.cpu.conv_depthwise_strip import LANE_BYTES, SHORT, lanes_of
from fastconv.cpu.conv_depthwise_taps import STRIP, add_products
from fastconv.cpu.conv_patches import ceil_div, inside
from fastconv.cpu.jit import aligned_start, get, inline, kernel, put
from fastconv.cpu.threads import parallel_for

SPEED = 25  # multiply-adds in a nanosecond of one thread, roughly
BOX = 112  # pixels of a box of channels last, about
WIDE = 512  # columns of a box of channels last, at most
_TASKS = 16
_TOGETHER = 8  # blocks of channels of a pixel that one task reads, about: adjacent ones share pages and cache lines
_PARTIAL_BYTES = 16 << 20  # of all splits


class Problem(NamedTuple):
    """All that is known of a call before its arrays are."""

    shape: Shape
    plan: Plan
    form: int
    cut: Cut
    starts: np.ndarray  # first filter of each block of filters
    splits: int
    chunks: int  # parts of the blocks of filters
    work: float  # nanoseconds of one thread, about


def problem_of(sampling, offsets, taps, last, itemsize):
    """The Problem of a forward pass whose filters are wanted."""
    shape, plan = shape_of(sampling), plan_of([(sampling, offsets, taps)])
    lanes = LANE_BYTES // itemsize
    form, starts = form_of(shape, lanes, last), starts_of(shape.filters, lanes)
    work = sampling.taps * math.prod(sampling.count) * shape.batch * shape.filters / SPEED
    if form == LAST:
        width = -(-shape.output[2] // -(-shape.output[2] // WIDE))
        rows = max(1, BOX // width)
        total = shape.batch * shape.output[0] * shape.output[1]
        cut = Cut((1, rows, width), (1, -(-total // rows), -(-shape.output[2] // width)), 0, 0)
        units = math.prod(cut.count)
        chunks = min(_TASKS, max(1, len(starts) // _TOGETHER))
    else:
        blocks = blocks_of(shape, lanes)
        cut = cut_of(shape, reach_of(plan), form, blocks)
        units = -(-blocks // len(starts)) * math.prod(cut.count)
        chunks = len(starts)
    most = max(1, _PARTIAL_BYTES // (len(starts) * plan.order.size * LANE_BYTES))
    splits = min(units, -(-_TASKS // chunks), most)
    return Problem(shape, plan, form, cut, starts, splits, chunks, work)


def weight_grad(xs, errors, dw, problem):
    """dw [filter, tap] of x and dy."""
    shape, plan, form, cut, starts, splits, chunks, work = problem
    lanes = LANE_BYTES // xs.itemsize
    partial = np.empty(splits * len(starts) * plan.order.size * lanes, xs.dtype)
    tasks = splits * chunks
    if form == LAST:
        parallel_for(weight_grad_last, tasks, work, xs, errors, partial, shape, plan, cut, splits, chunks)
    else:
        parallel_for(weight_grad_boxes, tasks, work, xs, errors, partial, shape, plan, cut, form, splits)
    add = add_splits
    parallel_for(add, shape.filters, partial.size, partial, dw, starts, plan.order, shape.filters, splits)


@kernel
def weight_grad_last(first, last, x, dy, partial, shape, plan, cut, splits, chunks):
    """partial[split, block, tap, lane] for channels last; a task is a split of some blocks of filters."""
    lanes = lanes_of(x)
    phases = plan.phases
    channels, taps = shape.filters, plan.order.size
    blocks = ceil_div(channels, lanes)
    boxes = cut.count[1] * cut.count[2]
    row_pitch = shape.size[2] * channels
    total = shape.batch * shape.output[0] * shape.output[1]
    pair_size = 2 * cut.band[1] + 1
    pairs = np.empty(plan.most_rows * pair_size + 1, np.int64)
    strip_size = 2 + STRIP * (cut.band[2] // SHORT + SHORT)
    strips = np.empty(plan.most_runs * strip_size + 1, np.int64)
    for task in range(first, last):
        split, chunk = task // chunks, task % chunks
        b_first, b_last = blocks * chunk // chunks, blocks * (chunk + 1) // chunks
        base = split * blocks * taps * lanes
        for i in range(base + b_first * taps * lanes, base + b_last * taps * lanes):
            put(partial, i, 0)
        for box in range(boxes * split // splits, boxes * (split + 1) // splits):
            r_first = box // cut.count[2] * cut.band[1]
            r_last = min(total, r_first + cut.band[1])
            q_first = box % cut.count[2] * cut.band[2]
            q_last = min(shape.output[2], q_first + cut.band[2])
            list_strips(strips, strip_size, plan, q_first, q_last, 0, 0, shape.size[2], channels, channels)
            for i in range(phases[ROW_COUNT]):
                at, found = i * pair_size, 0
                for row in range(r_first, r_last):
                    image = row // (shape.output[0] * shape.output[1])
                    d = row // shape.output[1] % shape.output[0] * phases[9] + plan.rows[2 * i]
                    h = row % shape.output[1] * phases[10] + plan.rows[2 * i + 1]
                    if d >= 0 and d < shape.size[0] and h >= 0 and h < shape.size[1]:
                        line = (image * shape.size[0] + d) * shape.size[1] + h
                        put(pairs, at + 1 + 2 * found, line * row_pitch)
                        put(pairs, at + 2 + 2 * found, row * shape.output[2] * channels)
                        found += 1
                put(pairs, at, found)
            for block in range(b_first, b_last):
                c = min(block * lanes, channels - lanes)
                walk(x, c, channels, dy, c, channels, pairs, pair_size, strips, strip_size, plan,
                     partial, base + block * taps * lanes)  # fmt: skip


@kernel
def weight_grad_boxes(first, last, x, dy, partial, shape, plan, cut, form, splits):
    """partial[split, block, tap, lane] by way of scratch memory; a task is a split of one block of filters."""
    lanes = lanes_of(x)
    phases = plan.phases
    taps = plan.order.size
    weight_blocks = partial.size // (splits * taps * lanes)
    blocks = shape.batch * weight_blocks
    if shape.filters < lanes:
        blocks = ceil_div(shape.batch * shape.filters, lanes)
    boxes = cut.count[0] * cut.count[1] * cut.count[2]
    copy = np.empty((cut.rows * cut.pitch + 1) * lanes, x.dtype)
    errors = np.empty((cut.band[0] * cut.band[1] * cut.band[2] + 1) * lanes, x.dtype)
    x_at, dy_at = aligned_start(copy), aligned_start(errors)
    planes = np.empty(2 * lanes, np.int64)
    pair_size = 2 * cut.band[0] * cut.band[1] + 1
    pairs = np.empty(plan.most_rows * pair_size + 1, np.int64)
    strip_size = 2 + STRIP * (cut.band[2] // SHORT + SHORT)
    strips = np.empty(plan.most_runs * strip_size + 1, np.int64)
    box = np.empty(12, np.int64)
    x_pitch, dy_pitch = (1, 1) if form == FIRST else (shape.channels, shape.filters)
    for task in range(first, last):
        split, weight_block = task // weight_blocks, task % weight_blocks
        at_w = (split * weight_blocks + weight_block) * taps * lanes
        for i in range(at_w, at_w + taps * lanes):
            put(partial, i, 0)
        units = ceil_div(blocks - weight_block, weight_blocks) * boxes
        for unit in range(units * split // splits, units * (split + 1) // splits):
            block, where = weight_block + unit // boxes * weight_blocks, unit % boxes
            box[0] = where // (cut.count[1] * cut.count[2]) * cut.band[0]
            box[2] = where // cut.count[2] % cut.count[1] * cut.band[1]
            box[4] = where % cut.count[2] * cut.band[2]
            for axis in range(3):
                box[2 * axis + 1] = min(shape.output[axis], box[2 * axis] + cut.band[axis])
            find_input(box, shape, plan)
            _, high = planes_of(block, weight_blocks, shape, form, planes, lanes)
            copy_box(copy, x_at, x, planes, 0, box, 6, shape.size, x_pitch)
            copy_box(errors, dy_at, dy, planes, lanes, box, 0, shape.output, dy_pitch)
            row_pitch, dy_row = (box[11] - box[10]) * lanes, (box[5] - box[4]) * lanes
            if high < lanes:  # lanes beyond the last plane hold copies of it, which are not to be summed
                for lane in range(high, lanes):
                    for i in range((box[7] - box[6]) * (box[9] - box[8]) * (box[11] - box[10])):
                        put(copy, x_at + i * lanes + lane, 0)
                    for i in range((box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4])):
                        put(errors, dy_at + i * lanes + lane, 0)
            list_strips(strips, strip_size, plan, box[4], box[5], box[4], box[10], box[11] - box[10], lanes, lanes)
            for i in range(phases[ROW_COUNT]):
                at, found = i * pair_size, 0
                for o in range(box[0], box[1]):
                    for p in range(box[2], box[3]):
                        d, h = o * phases[9] + plan.rows[2 * i], p * phases[10] + plan.rows[2 * i + 1]
                        if d >= 0 and d < shape.size[0] and h >= 0 and h < shape.size[1]:
                            line = (d - box[6]) * (box[9] - box[8]) + h - box[8]
                            put(pairs, at + 1 + 2 * found, line * row_pitch)
                            put(pairs, at + 2 + 2 * found, ((o - box[0]) * (box[3] - box[2]) + p - box[2]) * dy_row)
                            found += 1
                put(pairs, at, found)
            walk(copy, x_at, lanes, errors, dy_at, lanes, pairs, pair_size, strips, strip_size, plan, partial, at_w)


@inline
def walk(x, x_at, x_pitch, dy, dy_at, dy_pitch, pairs, pair_size, strips, strip_size, plan, sums, sums_at):
    """Add to the sums of all taps what the rows and strips of a box give."""
    lanes = lanes_of(x)
    phases, runs = plan.phases, plan.runs
    stride = phases[11] * x_pitch
    for i in range(phases[ROW_COUNT]):
        if get(pairs, i * pair_size) > 0:
            for k in range(phases[RUN_COUNT]):
                at = sums_at + (i * phases[COLUMNS] + runs[3 * k + 1]) * lanes
                add_products(x, x_at, stride, dy, dy_at, dy_pitch, pairs, i * pair_size, strips, k * strip_size,
                             runs[3 * k + 2], sums, at)  # fmt: skip


@inline
def list_strips(strips, size, plan, q_first, q_last, dy_first, column, width, x_pitch, dy_pitch):
    """Write for each run of taps the strips of pixels q_first to q_last, as add_products reads them.

    dy_first, column, width: The first pixel that dy holds, and the first column and the number of those that x holds.
    """
    phases, runs = plan.phases, plan.runs
    step = phases[11]
    for k in range(phases[RUN_COUNT]):
        offset, taps = runs[3 * k], runs[3 * k + 2]
        whole, single = 0, 0
        at = k * size + 2
        q = q_first
        while q < q_last:
            length = SHORT if q + SHORT <= q_last else 1
            first = q * step + offset - column
            low, high = inside(0, length + taps - 1, step, first, width)
            if low < high:
                strips[at], strips[at + 1] = first * x_pitch, (q - dy_first) * dy_pitch
                strips[at + 2], strips[at + 3] = low, high
                at += STRIP
                if length == SHORT:
                    whole += 1
                else:
                    single += 1
            q += length
        strips[k * size], strips[k * size + 1] = whole, single


@kernel
def add_splits(first, last, partial, dw, starts, order, filters, splits):
    """dw[filter, tap] = the sum over splits, blocks and lanes of this filter, in their order; a task is a filter."""
    lanes = lanes_of(partial)
    taps = order.size
    for f in range(first, last):
        for i in range(taps):
            total = dw.dtype.type(0)
            if filters >= lanes:
                block = min(f // lanes, starts.size - 1)
                for split in range(splits):
                    total += get(partial, ((split * starts.size + block) * taps + i) * lanes + f - starts[block])
            else:
                for split in range(splits):
                    for block in range(starts.size):
                        for lane in range((f - starts[block]) % filters, lanes, filters):
                            total += get(partial, ((split * starts.size + block) * taps + i) * lanes + lane)
            put(dw, f * taps + get(order, i), total)
