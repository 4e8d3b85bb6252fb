"""How a pooling is cut into blocks: the tiles and splits of csrc/pool/tile.h and csrc/pool/split.h.

A tile grows along the axis whose growth costs least: its box of operands, which lies in shared memory, should be little
larger than what the tile uses of it, as all that is more is read twice. Nothing here depends on the device, so that
results do not.
"""

import functools
import math
from typing import NamedTuple

_WARP, _THREADS = 32, 256
_BOX_BYTES = 24 * 1024  # wanted: six to nine blocks fit a multiprocessor
_MOST_BYTES = 40 * 1024  # accepted for a tile that is as small as can be; with its tables below the default limit
_MOST_RESULTS = 2048  # a thread makes eight of them
_MOST_POSITIONS = (256, 512, 2048)  # of a box, along each axis; kernels pack a position in a box into one int
_FEW_TAPS = 64  # a cell of so many is not worth sharing among threads
_ENOUGH_BLOCKS = 512  # about four for each multiprocessor


class Tile(NamedTuple):
    """Powers of two of results along planes, axes and lanes, and the box of operands."""

    planes: int
    axes: tuple
    lanes: int
    box: tuple

    def results(self):
        """Results in a tile."""
        return 1 << (self.planes + sum(self.axes) + self.lanes)

    def elements(self):
        """Operands in a box."""
        return math.prod(self.box) << (self.planes + self.lanes)


class Split(NamedTuple):
    """Powers of two of threads that share a cell and of lanes of a block, and blocks that share a cell."""

    ranks: int
    lanes: int
    parts: int


def forward_tile(axes, planes, lanes, itemsize):
    """The Tile of y with its box of x, or None if threads had better share cells.

    Args:
        axes: Three fastconv.cuda.pool_geometry.Axis.
        planes, lanes: As stored, N * C and 1 for channels first, N and C for channels last.
        itemsize: Bytes of an element of x.
    """
    tile = _grown(_FORWARD, axes, planes, lanes, itemsize)
    if tile is None:
        return None
    taps = math.prod(axis.taps() for axis in axes)
    reused = min(tile.results(), _results(axes, planes, lanes)) * taps >= 2 * tile.elements()
    return tile if taps <= _FEW_TAPS or reused else None


def input_grad_tile(axes, planes, lanes, itemsize):
    """The Tile of dx with its box of dy, or None if it would not fit.

    Args:
        axes, planes, lanes: As above.
        itemsize: Bytes that the box holds for an element of dy.
    """
    return _grown(_INPUT_GRAD, axes, planes, lanes, itemsize)


def split(axes, planes, lanes, itemsize, most_bytes):
    """The Split of a forward pooling.

    Args:
        axes, planes, lanes: As above.
        itemsize: Bytes of a partial result.
        most_bytes: Of all partial results together.
    """
    taps = math.prod(axis.taps() for axis in axes)
    log_lanes = _log_of_least(lanes, 5)
    log_ranks = min(max(5, (taps // 8).bit_length() - 1), 8 - log_lanes)
    cells = planes * math.prod(axis.output for axis in axes)
    blocks = -(-cells // (_THREADS >> log_ranks + log_lanes)) * -(-lanes >> log_lanes)
    parts = min(
        _ENOUGH_BLOCKS // max(blocks, 1), taps // (8 << log_ranks), most_bytes // max(cells * lanes * itemsize, 1)
    )
    return Split(log_ranks, log_lanes, max(parts, 1))


def _forward_results(axis):
    return axis.output


def _input_grad_results(axis):
    return axis.size


_FORWARD = (_forward_results, lambda axis, results: axis.reach(results))
_INPUT_GRAD = (_input_grad_results, lambda axis, results: axis.covering(results))


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def _grown(direction, axes, planes, lanes, itemsize):
    """The Tile of a problem, or None."""
    results_of, box_of = direction
    sizes = tuple(results_of(axis) for axis in axes)
    log_lanes = _log_of_least(lanes, 5)

    def tile(logs, more_planes=0):
        box = tuple(box_of(axis, 1 << log) for axis, log in zip(axes, logs, strict=True))
        return Tile(more_planes, tuple(logs), log_lanes, box)

    def fits(candidate, nbytes):
        if any(positions > most for positions, most in zip(candidate.box, _MOST_POSITIONS, strict=True)):
            return False
        return candidate.elements() * itemsize <= nbytes

    # A warp stores neighbours in memory: lanes, and columns where there are few lanes.
    chosen = None
    for log in range(_log_of_least(sizes[2], 5 - log_lanes), -1, -1):
        chosen = tile((0, 0, log))
        if fits(chosen, _MOST_BYTES):
            break
    else:
        return None
    total = math.prod(sizes) * planes * lanes
    while chosen.results() < _MOST_RESULTS:
        if chosen.results() >= _THREADS and total < _ENOUGH_BLOCKS * 2 * chosen.results():
            break
        longer = [
            tile([log + (a == b) for b, log in enumerate(chosen.axes)])
            for a in (2, 1, 0)
            if 1 << chosen.axes[a] < sizes[a]
        ]
        if not longer and 1 << chosen.planes < planes:
            longer = [tile(chosen.axes, chosen.planes + 1)]
        longer = [candidate for candidate in longer if fits(candidate, _BOX_BYTES)]
        if not longer:
            break
        chosen = min(longer, key=Tile.elements)
    return chosen


def _results(axes, planes, lanes):
    return planes * lanes * math.prod(axis.output for axis in axes)


def _log_of_least(size, most):
    """Logarithm of the least power of two that is no less than size, `most` at most."""
    return min((max(size, 1) - 1).bit_length(), most)
