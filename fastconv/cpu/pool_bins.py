"""Which input positions each output position covers: the geometry that the pooling kernels share.

Windows and adaptive cells are bins alike, one list of them an axis. Where those of the innermost axis
are evenly spaced, kernels walk whole rows of them at once; elsewhere they go bin by bin.
"""

import functools
from typing import NamedTuple

import numpy as np

# Places in a geometry array; those of the first line have one number an axis.
SIZE, OUTPUT, STEP, TAPS, STRIDE, BEFORE = 0, 3, 6, 9, 12, 15
EVEN, REGULAR, WHOLE, BAND = 18, 19, 20, 21

# Rows of fewer bins than this, or than a bin has columns, go bin by bin: vectors over bins would stay empty.
_FEWEST_IN_A_ROW = 4
# Rows of a bin of which all elements are compared.
_MOST_ROWS = 64
# What a band of rows may take of the first cache, and the elements that a row is longer by than it seems.
_BAND_BYTES, _LONGEST_VECTOR = 32768, 64


class Bins(NamedTuple):
    """Bin p of an axis covers start[p], start[p] + step, ... below stop[p]; axes follow one another.

    Attributes:
        geometry: int64, see the places above. Bins have TAPS elements along each axis at most. If REGULAR is 1, bin p
            has so many from p * STRIDE - BEFORE on, those outside the input included; if EVEN is 1, along the
            innermost axis, where there are enough of them for vectors. WHOLE is 1 if there is one bin, which is all of
            the input. BAND rows of bins are to be worked on at a time.
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
    before = [pair[0] for pair in window.padding]
    spacing = (*window.kernel, *window.stride, *before)
    return _bins(window.size, window.output, window.dilation, spacing, True, starts, stops, skipped)


@functools.lru_cache(maxsize=1024)
def adaptive(size, output):
    """The Bins of an adaptive pooling from `size` to `output` positions."""
    size, output = _three(size), _three(output)
    starts = [np.arange(o) * i // max(o, 1) for i, o in zip(size, output, strict=True)]
    stops = [-(-np.arange(1, o + 1) * i // max(o, 1)) for i, o in zip(size, output, strict=True)]
    taps = [int(np.max(stop - start, initial=0)) for start, stop in zip(starts, stops, strict=True)]
    regular = all(o > 0 and i % o == 0 for i, o in zip(size, output, strict=True))
    even = output[2] > 0 and size[2] % output[2] == 0
    return _bins(
        size, output, (1, 1, 1), (*taps, *(max(t, 1) for t in taps), 0, 0, 0), regular, starts, stops, even=even
    )


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
    covering = [np.max(stop - start, initial=0) for start, stop in zip(starts, stops, strict=True)]
    if geometry[STRIDE + 2] > 2 or geometry[EVEN] == 0:
        geometry[TAPS : TAPS + 3], geometry[EVEN] = covering, 0
    else:
        geometry[TAPS : TAPS + 2] = covering[:2]
    return Bins(geometry, np.concatenate(starts), np.concatenate(stops), np.empty(0, np.int64))


def in_bands(geometry):
    """Whether bins are to be worked on in bands of rows; maxima of columns are better for few or for high ones."""
    return geometry[EVEN] == 1 and geometry[REGULAR] == 1 and geometry[TAPS] * geometry[TAPS + 1] <= _MOST_ROWS


def bands(geometry):
    """Bands of rows in a plane."""
    return int(geometry[OUTPUT] * -(-geometry[OUTPUT + 1] // geometry[BAND]))


def overlap_little(geometry):
    """Whether to read every element of a bin is at most twice the work of sums of columns and of sums of those."""
    rows, taps = geometry[TAPS] * geometry[TAPS + 1], geometry[TAPS + 2]
    columns = geometry[SIZE + 2] / geometry[OUTPUT + 2]  # a bin
    return rows * taps <= 2 * (rows * columns + taps) + 4


def _spans(window):
    """Along each axis, where each bin begins and ends, outside the input too."""
    for output, kernel, stride, dilation, (before, _) in zip(
        window.output, window.kernel, window.stride, window.dilation, window.padding, strict=True
    ):
        first = np.arange(output) * stride - before
        yield first, first + (kernel - 1) * dilation + 1


def _bins(size, output, step, spacing, regular, starts, stops, skipped=(), even=True):
    taps, stride, before = spacing[:3], spacing[3:6], spacing[6:]
    even = even and output[2] >= max(taps[2], _FEWEST_IN_A_ROW)
    whole = 0 not in size and output == (1, 1, 1) and taps == size and step == (1, 1, 1) and not any(before)
    span = (taps[1] - 1) * step[1] + 1
    row = 4 * max(taps[0], 1) * (size[2] + 2 * before[2] + _LONGEST_VECTOR * stride[2])
    band = max((_BAND_BYTES // row - span) // stride[1] + 1, span // stride[1], 1)
    geometry = np.array(
        [*size, *output, *step, *spacing, even, regular, whole, evenly(max(output[1], 1), band)], np.int64
    )
    empty = np.empty(0, np.int64)
    return Bins(geometry, np.concatenate(starts), np.concatenate(stops), np.concatenate(skipped) if skipped else empty)


def evenly(count, most):
    """How many of `count` to take at a time, at most so many, that about as many are left for the last time."""
    return -(-count // -(-count // most))


def _three(size):
    return (1,) * (3 - len(size)) + tuple(size)
