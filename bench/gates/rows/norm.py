"""Batch and group normalisation."""

from bench.gates.row import BYTES, SECTORS, Row, draw
from fastconv import cuda

_EPS = 1e-5
# Gradients need sums over dy and x before they can map them: where no block can hold a statistic, both are read twice.
_TWICE = 1.75
# Channels last, a thread reads the parameters of its channels one by one, once a block: much only at so small a shape.
_PARAMETERS = 2.5


def rows():
    """Rows of both memory formats."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            kind = f"{'last' if last else 'first'} {dtype}"
            sectors = _PARAMETERS if last else SECTORS

            def images(count, dtype=dtype, last=last):
                x = draw(4, 64, 16, 16, dtype=dtype, last=last)
                return (x.copy(order="K"),) * (count - 1) + (x,)

            def normalised(images=images, dtype=dtype):
                w = draw(64, dtype=dtype)
                sums = draw(64)
                return (*images(1), sums, sums**2, w, w)

            def backward(images=images, dtype=dtype):
                sums = draw(64)
                return (*images(2), sums, sums**2, draw(64, dtype=dtype))

            def groups(images=images, dtype=dtype):
                return (*images(1), draw(64, dtype=dtype))

            def row(name, make, call, moved=BYTES, kind=kind, sectors=sectors):
                return Row(f"{name} {kind}", make, call, bytes=moved, sectors=sectors)

            yield row("batch_norm statistics", lambda make=images: make(1), cuda.batch_norm_statistics)
            yield row("batch_norm forward", normalised, batch_norm)
            yield row("batch_norm grad", backward, batch_norm_grad, _TWICE)
            yield row("group_norm forward", groups, group_norm, _TWICE if last else BYTES)


def batch_norm(x, mean, variance, w, b):
    """y of x."""
    return cuda.batch_norm_forward(x, mean, variance, w, b, _EPS)


def batch_norm_grad(dy, x, mean, variance, w):
    """dx, dw and db of dy."""
    return cuda.batch_norm_grad(dy, x, mean, variance, w, _EPS)


def group_norm(x, w):
    """y of x in groups of 8 channels, and its statistics."""
    return cuda.group_norm_forward(x, 8, w, w, _EPS)
