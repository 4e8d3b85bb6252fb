"""Which input positions each output position covers: the geometry that the pooling kernels share.

Windows and adaptive cells are bins alike, one list of them an axis. Where those of the innermost axis
are evenly spaced, kernels walk whole rows of them at once; elsewhere they go bin by bin.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

# Places in a geometry array; SIZE, OUTPUT and STEP have one number an axis, the others are of the innermost axis.
SIZE, OUTPUT, STEP = 0, 3, 6
TAPS, STRIDE, BEFORE, EVEN, ROWS, SLICES = 9, 10, 11, 12, 13, 14

# Rows of fewer bins than this, or than a bin has columns, go bin by bin: vectors over bins would stay empty.
_FEWEST_IN_A_ROW = 4
# A plane that is one bin may as well have rows of up to this length.
_LONGEST_ROW = 256


class Bins(NamedTuple):
    """Bin p of an axis covers start[p], start[p] + step, ... below stop[p]; axes follow one another.

    Attributes:
        geometry: int64, see the places above. Bins of the innermost axis have TAPS elements at most. If EVEN is 1,
            bin p has so many from p * STRIDE - BEFORE on, those outside the input included. They have ROWS rows
            in each of SLICES slices at most.
        starts, stops: int64 [sum of the output size].
        skipped: int64 like them, of windows: how many elements lie before start. Empty for adaptive cells.
    """

    geometry: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    skipped: np.ndarray


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def windowed(window):
    """The Bins of a pooling window."""
    window = window.three_axes()
    starts, stops, skipped = [], [], []
    for (first, end), size, dilation in zip(_spans(window), window.size, window.dilation, strict=True):
        skipped.append(np.maximum(-(first // dilation), 0))
        starts.append(first + skipped[-1] * dilation)  # the first tap that lies inside
        stops.append(np.minimum(end, size))
    (before, _), stride, taps = window.padding[2], window.stride[2], window.kernel[2]
    inner = (taps, stride, before, window.output[2] >= max(taps, _FEWEST_IN_A_ROW), *window.kernel[1::-1])
    return _bins(window.size, window.output, window.dilation, inner, starts, stops, skipped)


@functools.lru_cache(maxsize=1024)
def adaptive(size, output):
    """The Bins of an adaptive pooling from `size` to `output` positions."""
    size, output = _three(size), _three(output)
    starts = [np.arange(o) * i // max(o, 1) for i, o in zip(size, output, strict=True)]
    stops = [-(-np.arange(1, o + 1) * i // max(o, 1)) for i, o in zip(size, output, strict=True)]
    slices, rows, taps = (np.max(stop - start, initial=0) for start, stop in zip(starts, stops, strict=True))
    even = output[2] >= max(taps, _FEWEST_IN_A_ROW) and size[2] % output[2] == 0
    return _bins(size, output, (1, 1, 1), (taps, max(taps, 1), 0, even, rows, slices), starts, stops)


@functools.lru_cache(maxsize=1024)
def averaged_window(window, count_include_pad, divisor_override):
    """(Bins, divisors) of an average pooling; the divisor of a bin is the product of one an axis."""
    bins, window = windowed(window), window.three_axes()
    if divisor_override is not None:
        divisors = np.ones(sum(window.output))
        divisors[: window.output[0]] = divisor_override
        return bins, divisors
    lengths = []
    for (first, end), size, (_, after) in zip(_spans(window), window.size, window.padding, strict=True):
        if count_include_pad:  # what lies beyond the padding counts for nothing
            lengths.append(np.minimum(end, size + after) - first)
        else:
            lengths.append(np.minimum(end, size) - np.maximum(first, 0))
    return bins, np.concatenate(lengths).astype(float)


@functools.lru_cache(maxsize=1024)
def averaged_cells(size, output):
    """(Bins, divisors) of an adaptive average pooling."""
    bins = adaptive(size, output)
    return bins, (bins.stops - bins.starts).astype(float)


@functools.lru_cache(maxsize=1024)
def averaged_window_back(window, count_include_pad, divisor_override):
    """(transposed Bins, factors) of an average pooling; what a bin gives to an element is times a product of them."""
    bins, divisors = averaged_window(window, count_include_pad, divisor_override)
    return transposed(bins), 1 / divisors


@functools.lru_cache(maxsize=1024)
def averaged_cells_back(size, output):
    """(transposed Bins, factors) of an adaptive average pooling."""
    bins, divisors = averaged_cells(size, output)
    return transposed(bins), 1 / divisors


def transposed(bins):
    """The Bins that lead back: which bins cover each input position. For bins of step 1.

    The geometry of the innermost axis is still that of the windows, and TAPS theirs, if EVEN is 1 and
    they are 1 or 2 columns apart. Otherwise TAPS counts the windows that cover one position, and EVEN is 0.
    """
    size, output = bins.geometry[SIZE:OUTPUT], bins.geometry[OUTPUT:STEP]
    cuts = np.cumsum(output)[:2]
    starts, stops = [], []
    for length, start, stop in zip(size, np.split(bins.starts, cuts), np.split(bins.stops, cuts), strict=True):
        positions = np.arange(length)  # start and stop both ascend
        starts.append(np.searchsorted(stop, positions, side="right"))
        stops.append(np.searchsorted(start, positions, side="right"))
    geometry = bins.geometry.copy()
    geometry[SIZE:OUTPUT], geometry[OUTPUT:STEP] = output, size
    geometry[SLICES], geometry[ROWS], covering = (
        np.max(stop - start, initial=0) for start, stop in zip(starts, stops, strict=True)
    )
    if geometry[STRIDE] > 2 or geometry[EVEN] == 0:
        geometry[TAPS], geometry[EVEN] = covering, 0
    return Bins(geometry, np.concatenate(starts), np.concatenate(stops), np.empty(0, np.int64))


def overlap_little(geometry):
    """Whether to read every element of a bin is at most twice the work of sums of columns and of sums of those."""
    rows, taps = geometry[ROWS] * geometry[SLICES], geometry[TAPS]
    columns = geometry[SIZE + 2] / geometry[OUTPUT + 2]  # a bin
    return rows * taps <= 2 * (rows * columns + taps) + 4


def _spans(window):
    """Along each axis, where each bin begins and ends, outside the input too."""
    for output, kernel, stride, dilation, (before, _) in zip(
        window.output, window.kernel, window.stride, window.dilation, window.padding, strict=True
    ):
        first = np.arange(output) * stride - before
        yield first, first + (kernel - 1) * dilation + 1


def _bins(size, output, step, inner, starts, stops, skipped=()):
    geometry = np.array([*size, *output, *step, *inner], np.int64)
    skipped = np.concatenate(skipped) if skipped else np.empty(0, np.int64)
    return Bins(geometry, np.concatenate(starts), np.concatenate(stops), skipped)


@functools.lru_cache(maxsize=1024)
def as_rows(size):
    """A plane of this size, for one bin that is all of it, in rows that are neither short nor long if it can be."""
    positions = math.prod(size)
    width = max(w for w in range(1, min(positions, _LONGEST_ROW) + 1) if positions % w == 0)
    return (positions // width, width) if width >= min(size[-1], _LONGEST_ROW // 8) else size


def _three(size):
    return (1,) * (3 - len(size)) + tuple(size)
