"""Resizing."""

from bench.gates.row import SECTORS, Row, draw
from fastconv import cuda

_SIZE, _DOUBLE = (16, 16), (32, 32)
# Columns at the edges of the smaller image have fewer readers, so that their reads fall behind those of other lanes.
_EDGES = 1.45


def rows():
    """Rows of doubling an image, in both memory formats."""
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
