"""Which algorithm serves a convolution on the CPU, and how a caller decides on Winograd's.

Winograd multiplies a quarter as often, but transforms inputs, filters and results, and errs in proportion to all that a
tile of 6x6 pixels holds rather than to what one result sums. It pays where channels and filters are many.
"""

import functools

from fastconv.cpu.modes import Mode

_winograd = Mode("winograd", ("auto", "off", "always"))

# Least channels and filters of a group. Fewer do not pay for the transforms; with 16 the worst of random data errs by
# 0.6 of what the model of errors allows at c = 1, with 64 by 0.25. Padding of 2 leaves a corner one pixel of the tile
# that it errs with: there 64 channels err by 1.0.
_FEWEST, _FEWEST_AT_CORNERS = 16, 64
# What a convolution costs for each pair of channel and filter, in multiply-adds: transforming a filter, and a tile of
# either side, shared by all that it meets on the other.
_FILTER_COST, _TILE_COST = 250, 600
_ROWS = 8  # tiles that are multiplied at a time, at least
# The same for a weight gradient, whose tiles are shared by a block of about so many channels or filters: their sums are
# 600 KB in float32.
_BLOCK_TILE_COST, _WEIGHT_COST, _BLOCK = 1100, 100, 64
# Of a weight gradient, pixels of a plane along each axis and tiles in all: a tap at a corner may meet few pixels of a
# tile that it errs with, and only over many tiles do errors cancel. 64 channels err by 5 with 1 tile, 0.4 with 16.
_SMALLEST_PLANE, _FEWEST_TILES = 4, 16


def get_winograd():
    """When convolutions on the CPU take Winograd's algorithm.

    Returns:
        "auto", "off" or "always"; see set_winograd.

    Raises:
        ShapeError: FASTCONV_WINOGRAD, the default, is none of them.
    """
    return _winograd.get()


def set_winograd(mode):
    """Choose when convolutions on the CPU take Winograd's algorithm, in all threads.

    It computes the forward pass and both gradients of windows of 3x3 and 3x3x3, of stride and dilation 1, with about
    a quarter of the multiplications. On data that is alike all over its results are within the same bounds, but
    errors are in proportion to what a tile of 6x6 pixels holds: a pixel of 1 beside one of 1e6 keeps fewer digits.

    Args:
        mode: "auto", the default, in float32 and halves where it is faster; "off", never; "always", in float64 too
            and wherever the geometry allows it.

    Raises:
        DTypeError: mode is no str.
        ShapeError: mode is none of the three.
    """
    _winograd.set(mode)


def winograd(mode):
    """Within the block, take Winograd's algorithm on the CPU when `mode` says, in all threads.

    Args:
        mode: As for set_winograd.

    Returns:
        A context manager; what was chosen before returns at its end.
    """
    return _winograd.within(mode)


def is_winograd(window, dtype, transposed):
    """Whether Winograd's algorithm computes the forward pass of this window, or, transposed, the input gradient.

    Args:
        window: A Window of a convolution.
        dtype: float32 or float64, what is computed in.
        transposed: Whether channels are to be computed from filters.
    """
    mode = get_winograd()
    if mode == "off" or not _fits(window):
        return False
    return mode == "always" or (dtype.itemsize == 4 and _pays(window, transposed))


@functools.lru_cache(maxsize=1024)
def _fits(window):
    """Whether the kernels can compute it, both ways."""
    window = window.three_axes()
    if window.kernel[1:] != (3, 3) or not window.channels:
        return False
    if window.stride != (1, 1, 1) or window.dilation != (1, 1, 1):
        return False
    # With no more than this a result meets at least one pixel, and padding of the gradient is not negative.
    return all(max(pad) < kernel for pad, kernel in zip(window.padding, window.kernel, strict=True))


@functools.lru_cache(maxsize=1024)
def _pays(window, transposed):
    """Whether it is faster than the direct algorithm."""
    window = window.three_axes()
    channels, filters = window.channels // window.groups, window.filters // window.groups
    widest = max(2 - p if transposed else p for pad in window.padding[1:] for p in pad)
    fewest = _FEWEST_AT_CORNERS if widest == 2 else _FEWEST
    if min(channels, filters) < fewest:
        return False
    planes = window.batch * window.output[0]
    tiles = planes * -(-window.output[1] // 4) * -(-window.output[2] // 4)
    taps = window.kernel[0]
    direct = 9 * taps * planes * window.output[1] * window.output[2]
    products = 36 * taps * -(-tiles // _ROWS) * _ROWS
    return products + _FILTER_COST * taps + _TILE_COST * tiles * (1 / channels + 1 / filters) < 0.9 * direct


def is_winograd_weight_grad(window, dtype):
    """Whether Winograd's algorithm computes the weight gradient of this window; arguments as for is_winograd."""
    mode = get_winograd()
    if mode == "off" or not _fits(window) or not _is_accurate(window):
        return False
    return mode == "always" or (dtype.itemsize == 4 and _pays_weight_grad(window))


def _tiles(window):
    """Tiles of the output of a window of three axes."""
    return window.batch * window.output[0] * -(-window.output[1] // 4) * -(-window.output[2] // 4)


@functools.lru_cache(maxsize=1024)
def _is_accurate(window):
    """Whether a weight gradient is a sum over enough tiles."""
    window = window.three_axes()
    return min(window.size[1:] + window.output[1:]) >= _SMALLEST_PLANE and _tiles(window) >= _FEWEST_TILES


@functools.lru_cache(maxsize=1024)
def _pays_weight_grad(window):
    """Whether a weight gradient is faster than by the direct algorithm."""
    window = window.three_axes()
    sides = window.channels // window.groups, window.filters // window.groups
    if min(sides) < _FEWEST:
        return False
    tiles = _tiles(window)
    direct = 9 * window.batch * window.output[0] * window.output[1] * window.output[2]
    return (
        36 * tiles + _WEIGHT_COST + _BLOCK_TILE_COST * tiles * sum(weight_grad_blocks(n) / n for n in sides)
        < 0.9 * direct
    )


def weight_grad_blocks(count):
    """Blocks of channels or filters of a weight gradient."""
    return -(-count // _BLOCK)
