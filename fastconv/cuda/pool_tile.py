"""How a pooling is cut into blocks: the tiles and splits of csrc/pool/tile.h and csrc/pool/split.h.

A tile grows along the axis that leaves the smallest box of operands, in shared memory, for a result: what is more than
one tile needs of it is read again by the next. Nothing here depends on the device, so that results do not.
"""

import functools
import math
from typing import NamedTuple

_THREADS = 256
_LANES = 32  # most channels in a tile: a warp stores them side by side
_SECTOR_BYTES = 32  # least bytes of channels in a tile
_LINE = 64  # columns in the first tile of a row, where there are no lanes
_SECTOR = 16  # columns that tiles begin at multiples of: 32 bytes of halves, so that stores fill whole sectors
_BOX_BYTES = 32 * 1024  # wanted: five to six blocks fit a multiprocessor
_MOST_BYTES = 40 * 1024  # accepted for a tile that is as small as can be; with its tables below the default limit
_LARGEST_BYTES = 96 * 1024  # of a block with all that rows are padded with: what any GPU since 8.0 gives one
_MOST_RESULTS = 4096  # a thread makes sixteen of them
_MOST_POSITIONS = (256, 512, 2048)  # of a box, along each axis; kernels pack a position in a box into one int
_FEW_TAPS = 64  # a cell of so many is not worth sharing among threads
_ENOUGH_BLOCKS = 264  # two for each multiprocessor of a large GPU


class Tile(NamedTuple):
    """Results along planes, axes and lanes, and the box of operands along the axes."""

    planes: int
    axes: tuple
    lanes: int
    box: tuple

    def results(self):
        """Results in a tile."""
        return self.planes * math.prod(self.axes) * self.lanes

    def elements(self):
        """Operands in a box."""
        return self.planes * math.prod(self.box) * self.lanes


class Split(NamedTuple):
    """Powers of two of threads that share a cell and of lanes of a block, and blocks that share a cell."""

    ranks: int
    lanes: int
    parts: int


def forward_tile(axes, planes, lanes, itemsize):
    """The Tile of y with its box of x, or None if it would not fit.

    Args:
        axes: Three fastconv.cuda.pool_geometry.Axis.
        planes, lanes: As stored, N * C and 1 for channels first, N and C for channels last.
        itemsize: Bytes of an element of x.
    """
    return _grown(_FORWARD, axes, planes, lanes, itemsize, itemsize)


def pays(tile, axes):
    """Whether a forward Tile is better than threads that share cells: cells are small, or overlap."""
    taps = math.prod(axis.taps() for axis in axes)
    return taps <= _FEW_TAPS or tile.results() * taps >= 2 * tile.elements()


def input_grad_tile(axes, planes, lanes, itemsize, box_bytes):
    """The Tile of dx with its box of dy, or None if it would not fit.

    Args:
        axes, planes, lanes, itemsize: As above.
        box_bytes: Bytes that the box holds for an element of dy.
    """
    return _grown(_INPUT_GRAD, axes, planes, lanes, itemsize, box_bytes)


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


def _forward_box(axes, results):
    """The box of x, which includes padding along the last axis."""
    return axes[0].reach(results[0]), axes[1].reach(results[1]), axes[2].overhanging(results[2])


def _input_grad_box(axes, results):
    return tuple(axis.covering(count) for axis, count in zip(axes, results, strict=True))


# Results of an axis, the box that a tile needs, and of what tiles are multiples so that boxes overlap least.
_FORWARD = (_forward_results, _forward_box, lambda axis: 1)
_INPUT_GRAD = (_input_grad_results, _input_grad_box, lambda axis: min(axis.stride, 8))


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def _grown(direction, axes, planes, lanes, itemsize, box_bytes):
    """The Tile of a problem, or None."""
    widths, sector = [min(lanes, _LANES)], _SECTOR_BYTES // itemsize
    while widths[-1] % (2 * sector) == 0:  # only whole sectors, and so whole vectors
        widths.append(widths[-1] // 2)
    tiles = [_grown_to(direction, axes, planes, lanes, itemsize, box_bytes, width) for width in widths]
    return min((tile for tile in tiles if tile), key=_cost, default=None)


def _grown_to(direction, axes, planes, lanes, itemsize, box_bytes, width):
    """The Tile of so many lanes, or None."""
    results_of, box_of, multiple_of = direction
    sizes = tuple(results_of(axis) for axis in axes)
    multiples = [multiple_of(axis) for axis in axes]
    sector = phases = 1
    if direction is _FORWARD:
        phases = axes[2].stride if axes[2].kernel and axes[2].stride in (2, 4) else 1
    if lanes == 1:
        multiples[2] = _SECTOR
        sector = _SECTOR_BYTES // itemsize if direction is _FORWARD else 1

    def tile(results, more_planes=1):
        return Tile(more_planes, tuple(results), width, box_of(axes, results))

    def fits(candidate, nbytes):
        if any(positions > most for positions, most in zip(candidate.box, _MOST_POSITIONS, strict=True)):
            return False
        if _padded_bytes(candidate, box_bytes, sector, phases) > _LARGEST_BYTES:
            return False
        return candidate.elements() * box_bytes <= nbytes

    def blocks(candidate):
        parts = (-(-size // results) for size, results in zip(sizes, candidate.axes, strict=True))
        return math.prod(parts) * -(-planes // candidate.planes) * -(-lanes // candidate.lanes)

    chosen = tile((1, 1, _share(sizes[2], max(_LINE // width, 1), multiples[2])))
    while not fits(chosen, _MOST_BYTES):
        if chosen.axes[2] == 1:
            return None
        chosen = tile((1, 1, chosen.axes[2] // 2))
    while chosen.results() < _MOST_RESULTS:
        longer = []
        for a in (2, 1, 0):
            if chosen.axes[a] < sizes[a]:
                results = list(chosen.axes)
                results[a] = _share(sizes[a], 2 * results[a], multiples[a])
                longer.append(tile(results))
        if not longer and chosen.planes < planes:
            longer = [tile(chosen.axes, min(2 * chosen.planes, planes))]
        longer = [
            candidate
            for candidate in longer
            if fits(candidate, _BOX_BYTES)
            and candidate.results() <= _MOST_RESULTS
            and (chosen.results() < _THREADS or blocks(candidate) >= _ENOUGH_BLOCKS)
        ]
        if not longer:
            break
        chosen = min(longer, key=_cost)
    return chosen


def _padded_bytes(tile, box_bytes, sector, phases):
    """Most shared memory that a block takes, tables and padding included: see TilePlan in csrc/pool/tile.h.

    Args:
        tile: A Tile.
        box_bytes: Bytes that the box holds for an operand.
        sector: Columns that rows of the box begin and end at multiples of.
        phases: Equally long parts that a row is kept in.
    """
    columns = (tile.box[2] + 2 * (sector - 1)) // sector * sector + (phases - 1) * max(sector // 2, 1)
    row = columns * tile.lanes * 5 // 4  # up to a quarter keeps rows apart in the banks
    tables = 4 * (3 * sum(tile.axes) + sum(tile.box)) + 16
    return tile.planes * tile.box[0] * tile.box[1] * row * box_bytes + tables


def _cost(tile):
    """Operands that are read for a result."""
    return tile.elements() / tile.results()


def _share(size, most, multiple=1):
    """At most so many of size that its parts are about equal, rounded up to a multiple."""
    part = -(-size // -(-size // most))
    return min(-(-part // multiple) * multiple, size)


def _log_of_least(size, most):
    """Logarithm of the least power of two that is no less than size, `most` at most."""
    return min((max(size, 1) - 1).bit_length(), most)
