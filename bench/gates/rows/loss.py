"""Cross-entropy with classes."""

import numpy

from bench.gates.row import BYTES, Row, draw
from fastconv import cuda

# Channels first, 8 classes of a thread's neighbours are each read by one request: loss and target add little to them.
_SHAPE = (2, 8, 32, 32)


def rows():
    """Rows of both memory formats and of a long row of classes."""
    for dtype in ("float16", "float32"):
        for name, shape, last in (("first", _SHAPE, False), ("last", _SHAPE, True), ("rows", (64, 256), False)):

            def scores(shape=shape, dtype=dtype, last=last):
                target = numpy.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
                return draw(*shape, dtype=dtype, last=last), target

            def errors(scores=scores):
                x, target = scores()
                return draw(*target.shape), x, draw(*target.shape), target

            kind = f"{name} {dtype}"
            yield Row(f"cross_entropy forward {kind}", scores, cross_entropy, bytes=BYTES)
            yield Row(f"cross_entropy grad {kind}", errors, cross_entropy_grad, bytes=BYTES)


def cross_entropy(x, target):
    """loss and logsumexp of x."""
    return cuda.cross_entropy_forward(x, target, None, -100, 0.0)


def cross_entropy_grad(dloss, x, logsumexp, target):
    """dx of dloss."""
    return cuda.cross_entropy_grad(dloss, x, logsumexp, target, None, -100, 0.0)
