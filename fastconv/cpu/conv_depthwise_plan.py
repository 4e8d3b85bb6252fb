"""What the depthwise kernels are told: which taps each pixel meets, and how memory is cut into tasks."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from fastconv.cpu.conv_depthwise_strip import GROUPS, LANE_BYTES, LONG, RUN, SHORT
from fastconv.cpu.conv_patches import ceil_div, inside
from fastconv.cpu.jit import get, inline, put

# A phase is so many numbers: count, start, spread and step of its Sampling, then these.
ROWS, ROW_COUNT, RUNS, RUN_COUNT, FIRST_TAP, COLUMNS, LEAST, MOST, PHASE = 12, 13, 14, 15, 16, 17, 18, 19, 20
LAST, FIRST, SCATTERED = 0, 1, 2
_NEAR = 40 << 10  # bytes of the copy of a task that stay in the L1 cache
_FAR = 512 << 10  # the same for the L2 cache
TASKS = 16  # where there are fewer, boxes are smaller


class Plan(NamedTuple):
    """Which taps the pixels of a result meet, in arrays that kernels read."""

    phases: np.ndarray  # [phase, PHASE]: ROWS and RUNS are places in the next two, FIRST_TAP one in `order`
    rows: np.ndarray  # (depth, height) offsets of each row of taps, ascending
    runs: np.ndarray  # taps of a row that adjacent pixels read one after the other: column offset, place, number
    order: np.ndarray  # taps of the filters in the order in which they are read
    most_rows: int  # of any phase
    most_runs: int


class Shape(NamedTuple):
    """The sizes of a problem; filter f reads channel f // multiplier."""

    batch: int
    channels: int
    filters: int
    multiplier: int
    size: tuple
    output: tuple


class Cut(NamedTuple):
    """How the output of one block of channels is cut into boxes."""

    band: tuple  # output positions of a box along each axis
    count: tuple  # boxes along each axis
    rows: int  # input rows that a box reads, at most
    pitch: int  # pixels from one row of the copy to the next


def shape_of(sampling):
    """The Shape of a Sampling."""
    filters = sampling.groups * sampling.filters
    return Shape(sampling.batch, sampling.groups, filters, sampling.filters, sampling.size, sampling.output)


def form_of(shape, lanes, last):
    """How channels lie: vectors of them in pixels, planes of them, or channels last but neither."""
    if not last:
        return FIRST
    return LAST if shape.multiplier == 1 and shape.filters >= lanes else SCATTERED


def plan_of(phases):
    """The Plan of the phases [(Sampling, offsets, taps)] of one result."""
    table, rows, runs, order = [], [], [], []
    for sampling, offsets, taps in phases:
        offsets = offsets.reshape(-1, 3).tolist()
        places = dict(zip(map(tuple, offsets), taps.tolist(), strict=True))
        depths, heights, columns = (sorted({offset[axis] for offset in offsets}) for axis in range(3))
        here = [(d, h) for d in depths for h in heights]
        groups = _groups(columns, sampling.step[2])
        first = len(order)
        order += [places[d, h, w] for d, h in here for group in groups for w in group]
        starts = itertools.accumulate([0] + [len(group) for group in groups])
        lines = [(group[0], place, len(group)) for group, place in zip(groups, starts, strict=False)]
        ends = (columns[0], columns[-1]) if columns else (0, -1)
        sizes = (len(rows), len(here), len(runs), len(lines), first, len(columns), *ends)
        table.append([*sampling.count, *sampling.start, *sampling.spread, *sampling.step, *sizes])
        rows += here
        runs += lines
    arrays = (np.array(part, np.int64).reshape(-1) for part in (table, rows, runs, order))
    return Plan(*arrays, max(line[ROW_COUNT] for line in table), max(line[RUN_COUNT] for line in table))


def _groups(columns, step):
    """The column offsets in groups whose neighbours are a step apart, of the sizes that strips know."""
    left, groups = sorted(columns), []
    while left:
        run = [left[0]]
        while run[-1] + step in left:
            run.append(run[-1] + step)
        left = [c for c in left if c not in run]
        while run:
            size = next(group for group in GROUPS if group <= len(run))
            groups.append(run[:size])
            run = run[size:]
    return groups


def cut_of(shape, reach, form, blocks):
    """The Cut of a problem whose blocks of channels are `blocks` tasks at least.

    reach: (step, spread, taps, least and most offset) along each axis, over all phases.
    """
    cycles, best = math.inf, None
    least = -(-TASKS // blocks)
    for band in itertools.product(*(bands(shape.output[axis], axis) for axis in range(3))):
        count = tuple(-(-size // length) for size, length in zip(shape.output, band, strict=True))
        if math.prod(count) < least and math.prod(band) > 16 * LONG:
            continue
        spans = [_span(reach[axis], band[axis]) for axis in range(3)]
        rows = min(spans[0], shape.size[0]) * min(spans[1], shape.size[1])
        pitch = min(spans[2], shape.size[2])
        here = _cycles(shape, reach, form, band, rows, pitch) * math.prod(count)
        if here < cycles:
            cycles, best = here, Cut(band, count, rows, pitch)
    return best


def bands(length, axis):
    """Sizes of a box along an axis that are worth a thought, always with one that is small."""
    if axis == 2:
        whole = [length] if length <= 1024 else []
        return [b for b in (LONG, 2 * LONG, 4 * LONG, 16 * LONG) if b < length] + whole
    return sorted({-(-length // n) for n in (1, 2, 3, 4, 6, 8, 12, 16, 32, length)} | {min(length, 4)})


def _span(reach, band):
    """Input positions along an axis that a box of so many output positions reads, at most."""
    step, spread, _, least, most = reach
    if most < least:
        return 0
    pixels = band if spread == 1 else -(-band // spread) + 1
    return (pixels - 1) * step + most - least + 1


def _cycles(shape, reach, form, band, rows, pitch):
    """What a box takes, roughly: copies, products, and results that are turned back."""
    copied, results = rows * pitch, math.prod(band)
    held = (copied + results) * LANE_BYTES
    slower = 1 if held <= _NEAR else 1.5 if held <= _FAR else 4
    turned = 5 if form == FIRST else 1.5
    if form == FIRST and band[2] < shape.output[2]:
        turned = 12
    taps = math.prod(axis[2] / axis[1] for axis in reach)
    strips = -(-band[2] // SHORT) * SHORT * band[0] * band[1]
    return copied * turned * slower + strips * (3 + taps * (0.55 if slower == 1 else 0.6)) + 300


def reach_of(plan):
    """(step, spread, taps, least and most offset) along each axis, over all phases; taps of all phases together."""
    phases = plan.phases.reshape(-1, PHASE)
    rows = plan.rows.reshape(-1, 2)
    reach = []
    for axis in range(3):
        if axis < 2:
            offsets = rows[:, axis]
            ends = (int(offsets.min()), int(offsets.max())) if len(offsets) else (0, -1)
            taps = len(set(offsets.tolist()))
        else:
            used = phases[phases[:, COLUMNS] > 0]
            ends = (int(used[:, LEAST].min()), int(used[:, MOST].max())) if len(used) else (0, -1)
            taps = int(used[:, COLUMNS].max(initial=0))
        reach.append((int(phases[0, 9 + axis]), int(phases[0, 6 + axis]), max(1, taps), *ends))
    return tuple(reach)


class Walk(NamedTuple):
    """How the output of a channels-last problem is cut into bands of rows."""

    band: tuple  # output positions of a band along each axis
    count: tuple  # bands along each axis
    near: int  # blocks of channels that are walked together


def walk_of(shape, reach, blocks):
    """The Walk of a problem of so many blocks of channels."""
    slices, rows, columns = shape.output
    tasks = -(-TASKS // (shape.batch * slices))
    band_h = -(-rows // min(tasks, rows))
    wide = min(-(-TASKS // (shape.batch * slices * -(-rows // band_h))), max(1, columns // (4 * LONG)))
    band_w = -(-columns // wide)
    read = [1 if axis == 0 else _span(reach[axis], LONG if axis == 2 else 1) for axis in range(3)]
    near = max(1, min(blocks, _NEAR // max(1, reach[0][2] * read[1] * read[2] * LANE_BYTES)))
    near = -(-blocks // -(-blocks // near))
    band = (1, band_h, band_w)
    return Walk(band, tuple(-(-a // b) for a, b in zip(shape.output, band, strict=True)), near)


@inline
def pixels_of(first, last, phase, axis, phases):
    """(low, high): pixels of a phase along an axis that are written to output positions first to last."""
    start, spread = phases[phase + 3 + axis], phases[phase + 6 + axis]
    low = max(0, ceil_div(first - start, spread))
    return low, max(low, min(phases[phase + axis], ceil_div(last - start, spread)))


@inline
def list_rows(lists, at, plan, f, o, p, size, slice_pitch, row_pitch, d0, h0, lanes):
    """Write how many rows of taps of phase f the pixel row (o, p) meets, and where each lies in x and in w."""
    phases, rows = plan.phases, plan.rows
    found = 0
    for i in range(phases[f + ROW_COUNT]):
        d = o * phases[f + 9] + get(rows, 2 * (phases[f + ROWS] + i))
        h = p * phases[f + 10] + get(rows, 2 * (phases[f + ROWS] + i) + 1)
        if d >= 0 and d < size[0] and h >= 0 and h < size[1]:
            put(lists, at + 1 + 2 * found, (d - d0) * slice_pitch + (h - h0) * row_pitch)
            put(lists, at + 2 + 2 * found, (phases[f + FIRST_TAP] + i * phases[f + COLUMNS] + 1) * lanes)
            found += 1
    put(lists, at, found)


@inline
def list_runs(lists, plan, f, column, width, pitch, lanes, pixels):
    """Write the runs of taps that a strip meets, as strip_long and strip_short read them; give their number.

    column: What the first pixel reads by a tap of offset 0, of a row of `width` columns.
    """
    phases, runs = plan.phases, plan.runs
    found = 0
    for k in range(phases[f + RUNS], phases[f + RUNS] + phases[f + RUN_COUNT]):
        first, taps = column + runs[3 * k], runs[3 * k + 2]
        low, high = inside(0, pixels + taps - 1, phases[f + 11], first, width)
        if low < high:
            at = RUN * found
            lists[at], lists[at + 1], lists[at + 2] = first * pitch, runs[3 * k + 1] * lanes, taps
            lists[at + 3], lists[at + 4] = low, high
            found += 1
    return found
