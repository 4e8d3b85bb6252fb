"""Resizing."""

from bench.gates.row import SECTORS, Row, draw
from fastconv import cuda

_SIZE, _DOUBLE = (16, 16), (32, 32)
# Columns at the edges of the smaller image have fewer readers, so that their reads fall behind those of other lanes.
_EDGES = 1.45
# Columns at the edges have other taps, for a filter ends there, so that what they stage is read out of step as well.
_CLIPPED = 1.35


def rows():
    """Rows of doubling an image, and of dividing its size by four, in both memory formats."""
    yield from _computed()
    yield from _read()


def _read():
    """Rows of the modes whose taps are read from tables: wide images, of whose columns few are at an edge."""
    for dtype, last in (("float32", False), ("float32", True), ("float16", True)):
        for mode, source, target in (("cubic", (4, 256), (8, 512)), ("linear-antialias", (16, 512), (4, 128))):
            kind = f"{mode} {'last' if last else 'first'} {dtype}"

            def arguments(size, dtype=dtype, last=last):
                return (draw(1, 16, *size, dtype=dtype, last=last),)

            def forward(x, mode=mode, size=target):
                return cuda.resize_forward(x, size, mode, False, None)

            def input_grad(dy, mode=mode, size=source):
                return cuda.resize_input_grad(dy, size, mode, False, None)

            limit = dict(conflicts=_CLIPPED)
            yield Row(f"resize forward {kind}", lambda make=arguments, size=source: make(size), forward, **limit)
            yield Row(f"resize input_grad {kind}", lambda make=arguments, size=target: make(size), input_grad, **limit)


def _computed():
    for dtype in ("float16", "float32"):
        for last in (False, True):
            for mode in ("nearest", "linear"):
                kind = f"{mode} {'last' if last else 'first'} {dtype}"

                def arguments(size, dtype=dtype, last=last):
                    return (draw(2, 32, *size, dtype=dtype, last=last),)

                def forward(x, mode=mode):
                    return cuda.resize_forward(x, _DOUBLE, mode, False, (None, None))

                def input_grad(dy, mode=mode):
                    return cuda.resize_input_grad(dy, _SIZE, mode, False, (None, None))

                limit = SECTORS if last else _EDGES
                yield Row(f"resize forward {kind}", lambda make=arguments: make(_SIZE), forward)
                yield Row(f"resize input_grad {kind}", lambda make=arguments: make(_DOUBLE), input_grad, sectors=limit)
