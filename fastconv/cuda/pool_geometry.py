"""Geometry of a pooling as the kernels take it: three axes, each windowed or adaptive.

A plane whose only output position covers all of it is one row to the kernels: reductions then walk neighbours in
memory, and the positions in the flattened plane stay what they are.
"""

import functools
import math
from typing import NamedTuple

_MOST_POSITIONS = 2**31 - 1  # of an axis


class Axis(NamedTuple):
    """One axis: as in csrc/pool/geometry.h, kernel 0 for an adaptive one."""

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    def taps(self):
        """Most input positions that an output position covers."""
        if self.kernel:
            return min(self.kernel, self.size)
        return min(-(-self.size // max(self.output, 1)) + 1, self.size)

    def covers_all(self):
        """Whether there is one output position, and it covers every input position."""
        if self.output != 1:
            return False
        return not self.kernel or (self.dilation == 1 and self.kernel - self.before >= self.size)

    def reach(self, outputs):
        """Most input positions from the first to the last that so many neighbouring output positions cover."""
        return min(self.overhanging(outputs), self.size)

    def overhanging(self, outputs):
        """The same, positions outside the input included."""
        outputs = min(outputs, self.output)
        if self.kernel:
            return (outputs - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        return min(-(-outputs * self.size // max(self.output, 1)) + 1, self.size)

    def covering(self, inputs):
        """Most output positions that cover one of so many neighbouring input positions."""
        inputs = min(inputs, self.size)
        if self.kernel:
            positions = (inputs - 1 + (self.kernel - 1) * self.dilation) // self.stride + 1
        else:
            positions = -(-inputs * self.output // self.size) + 1
        return max(min(positions, self.output), 1)


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def windowed(window):
    """The three axes of a pooling Window."""
    return _as_row(windows(window))


@functools.lru_cache(maxsize=1024)
def windows(window):
    """The same where positions are those within windows, which a plane that is one row would lose."""
    w = window.three_axes()
    rows = zip(w.size, w.output, w.kernel, w.stride, w.dilation, w.padding, strict=True)
    return tuple(Axis(*row, before, after) for *row, (before, after) in rows)


@functools.lru_cache(maxsize=1024)
def adaptive(size, output):
    """The three axes of an adaptive pooling."""
    extra = (1,) * (3 - len(size))
    rows = zip(extra + tuple(size), extra + tuple(output), strict=True)
    return _as_row(tuple(Axis(i, o, 0, 1, 1, 0, 0) for i, o in rows))


@functools.lru_cache(maxsize=1024)
def averaging(window, count_include_pad, divisor_override):
    """(whether padding counts, divisor or 0) of an average pooling; a plane that is one row has but a divisor."""
    if divisor_override is not None:
        return count_include_pad, float(divisor_override)
    if not all(axis.kernel for axis in windowed(window)):
        pairs = zip(window.kernel, window.size, window.padding, strict=True)
        if count_include_pad:
            return True, float(math.prod(min(k, size + before + after) for k, size, (before, after) in pairs))
        return False, float(math.prod(window.size))
    return count_include_pad, 0.0


def positions(axes):
    """Input positions of a plane."""
    return math.prod(axis.size for axis in axes)


def _as_row(axes):
    if all(axis.covers_all() for axis in axes) and positions(axes) <= _MOST_POSITIONS:
        one = Axis(1, 1, 0, 1, 1, 0, 0)
        return one, one, Axis(positions(axes), 1, 0, 1, 1, 0, 0)
    return axes
