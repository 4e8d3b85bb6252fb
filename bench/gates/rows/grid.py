"""Sampling at the points of a grid."""

import numpy

from bench.gates.row import Row, draw
from fastconv import cuda

_READS = 1.25  # neighbours read neighbours, but not where sectors start
_SORTED = 1.75  # what reads a position lies where sorting put it
_RULE = ("bilinear", "zeros", False, (0, 0))
_SHAPE, _SIZE = (2, 16, 16, 32), (16, 32)


def rows():
    """Rows of reading an image where its pixels are, in both memory formats."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            kind = f"{'last' if last else 'first'} {dtype}"

            def images(dtype=dtype, last=last):
                return draw(*_SHAPE, dtype=dtype, last=last), _centres(dtype)

            def errors(dtype=dtype, last=last):
                return draw(*_SHAPE, dtype=dtype, last=last), draw(*_SHAPE, dtype=dtype, last=last), _centres(dtype)

            # What an index reads has no bytes to be held to.
            yield Row(f"grid_sample forward {kind}", images, _forward, bytes=None, sectors=_READS)
            yield Row(f"grid_sample input_grad {kind}", images, _input_grad, bytes=None, sectors=_SORTED)
            yield Row(f"grid_sample grid_grad {kind}", errors, _grid_grad, bytes=None, sectors=_READS)


def _centres(dtype):
    """A grid [2, 16, 32, 2] of the centres of an image's pixels."""
    y, x = ((2 * numpy.arange(n) + 1) / n - 1 for n in _SIZE)
    return numpy.stack([numpy.stack(numpy.meshgrid(x, y), axis=-1)] * 2).astype(dtype)


def _forward(x, points):
    return cuda.grid_sample_forward(x, points, *_RULE)


def _input_grad(dy, points):
    return cuda.grid_sample_input_grad(dy, points, _SIZE, *_RULE)


def _grid_grad(dy, x, points):
    return cuda.grid_sample_grid_grad(dy, x, points, *_RULE)
