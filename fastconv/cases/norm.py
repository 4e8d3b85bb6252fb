"""Cases of batch normalisation: its statistics, its forward pass and its gradient."""

import math

from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# N, C, size
SHAPES = [
    (2, 1, ()),
    (13, 31, ()),
    (1, 3, (1,)),  # one value a channel: variance 0
    (3, 2, (17,)),
    (2, 33, (5, 7)),
    (5, 13, (3, 1)),
    (0, 3, (4,)),
    (2, 3, (3, 4, 5)),
    (1, 15, (2, 3, 2)),
]
STORED_SHAPE = (3, 4, (4, 5))
SHARED_SHAPE = (4, 33, (63, 65))

EPS = 1e-5


def cases():
    """Cases of batch_norm_statistics, batch_norm_forward and batch_norm_grad."""
    for shape in SHAPES:
        yield from _cases(shape, quick=shape[0] > 0)
    yield from _cases(STORED_SHAPE, fills=("normal", "shifted", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SHAPE, fills=("normal", "shifted"), quick=True)


def _cases(row, **how):
    n, channels, size = row
    shape = (n, channels, *size)
    work = channels * (n * math.prod(size)) ** 2

    def statistics(draw):
        return (draw.data(*shape),)

    yield from cross("batch_norm_statistics", by(shape), statistics, work, **how)
    for weight, bias in ((True, True), (True, False), (False, True), (False, False)):
        text = by(shape) + ("" if weight else ", no weight") + ("" if bias else ", no bias")

        def forward(draw, weight=weight, bias=bias):
            x = draw.data(*shape)
            mean, variance = draw.statistics(x) if n else (draw.positive(channels), draw.positive(channels))
            w, b = (draw.normal(channels) if given else None for given in (weight, bias))
            return x, mean, variance, w, b, EPS

        yield from cross("batch_norm_forward", text, forward, work, **(how if weight and bias else {"quick": True}))
    for weight in (True, False):

        def grad(draw, weight=weight):
            x, dy = draw.data(*shape), draw.normal(*shape)
            mean, variance = draw.statistics(x) if n else (draw.positive(channels), draw.positive(channels))
            return dy, x, mean, variance, draw.normal(channels) if weight else None, EPS

        text = by(shape) + ("" if weight else ", no weight")
        yield from cross("batch_norm_grad", text, grad, work, **(how if weight else {"quick": True}))
