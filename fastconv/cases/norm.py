"""Cases of batch, group and RMS normalisation: statistics, forward pass and gradients."""

import math

from fastconv import reference
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

# N, C, size, groups: layer norm has one group and no size, instance norm as many groups as channels
GROUPED = [
    (3, 8, (), 1),
    (5, 37, (), 1),
    (1, 1030, (), 1),
    (7, 12, (), 3),
    (2, 6, (5, 3), 3),
    (3, 5, (7,), 5),
    (2, 16, (3, 2, 3), 2),
    (1, 4, (1, 1), 4),  # one value a group: variance 0
    (0, 4, (3,), 2),
    (2, 4, (0,), 2),
]
STORED_GROUPED = (3, 4, (4, 5), 2)
SHARED_GROUPED = [(4, 20, (65, 63), 5), (4, 8, (99, 83), 8), (256, 999, (), 1)]

# rows, length of RMS norm
ROWS = [(1, 1), (7, 5), (3, 37), (1, 1030), (300, 3), (2, 4099), (0, 4), (2, 0)]
STORED_ROWS = (5, 12)
SHARED_ROWS = [(256, 999), (4, 65_000)]

EPS = 1e-5


def cases():
    """Cases of batch_norm_* , group_norm_* and rms_norm_*."""
    for shape in SHAPES:
        yield from _cases(shape, quick=shape[0] > 0)
        yield from _fused_cases(shape, quick=shape[0] > 0)
    yield from _cases(STORED_SHAPE, fills=("normal", "shifted", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _fused_cases(STORED_SHAPE, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED_SHAPE, fills=("normal", "shifted"), quick=True)
    for row in GROUPED:
        yield from _group_cases(row, quick=row[0] * math.prod(row[2]) > 0)
    yield from _group_cases(STORED_GROUPED, fills=("normal", "shifted", "special"), storages=EVERY_STORAGE, quick=True)
    for row in SHARED_GROUPED:
        yield from _group_cases(row, fills=("normal", "shifted"), quick=True)
    for row in ROWS:
        yield from _rms_cases(row, quick=0 not in row)
    yield from _rms_cases(STORED_ROWS, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    for row in SHARED_ROWS:
        yield from _rms_cases(row, quick=True)


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

    def weight_grad(draw):
        x, dy = draw.data(*shape), draw.normal(*shape)
        return dy, x, *(draw.statistics(x) if n else (draw.positive(channels), draw.positive(channels))), EPS

    yield from cross("batch_norm_weight_grad", by(shape), weight_grad, work, **how)


def _fused_cases(row, **how):
    """The forward pass with a residual and a ReLU, or one of them, and the gradient behind a ReLU."""
    n, channels, size = row
    shape = (n, channels, *size)
    work = channels * (n * math.prod(size)) ** 2
    for residual, relu in ((True, True), (True, False), (False, True)):
        text = by(shape) + (", residual" if residual else "") + (", ReLU" if relu else "")

        def forward(draw, residual=residual, relu=relu):
            x = draw.data(*shape)
            mean, variance = draw.statistics(x) if n else (draw.positive(channels), draw.positive(channels))
            w, b = draw.normal(channels), draw.normal(channels)
            return x, mean, variance, w, b, EPS, draw.data(*shape) if residual else None, relu

        yield from cross("batch_norm_forward", text, forward, work, **how)

    def grad(draw):
        x, dy, y = draw.data(*shape), draw.normal(*shape), draw.normal(*shape)
        mean, variance = draw.statistics(x) if n else (draw.positive(channels), draw.positive(channels))
        y[...] = y * (y > 0)  # as a ReLU leaves it; then what it lets through unchanged
        y.flat[::31] = float("nan")
        return dy, x, mean, variance, draw.normal(channels), EPS, y

    yield from cross("batch_norm_grad", f"{by(shape)}, ReLU", grad, work, **how)


def _group_cases(row, **how):
    n, channels, size, groups = row
    shape = (n, channels, *size)
    work = n * groups * (channels // groups * math.prod(size)) ** 2
    text = f"{by(shape)} in {groups}"
    for affine in (True, False):

        def forward(draw, affine=affine):
            w, b = (draw.normal(channels) if affine else None for _ in range(2))
            return draw.data(*shape), groups, w, b, EPS

        def grad(draw, affine=affine):
            x, dy = draw.data(*shape), draw.normal(*shape)
            mean, variance = draw.group_statistics(x, groups)
            return dy, x, mean, variance, groups, draw.normal(channels) if affine else None, EPS

        chosen = how if affine else {"quick": how["quick"]}
        label = text if affine else f"{text}, no weight"
        yield from cross("group_norm_forward", label, forward, work, **chosen)
        yield from cross("group_norm_grad", label, grad, work, **chosen)


def _rms_cases(row, **how):
    work = row[0] * row[1] ** 2
    for weight in (True, False):

        def forward(draw, weight=weight):
            return draw.data(*row), draw.normal(row[1]) if weight else None, EPS

        def grad(draw, weight=weight):
            x, dy = draw.data(*row), draw.normal(*row)
            return dy, x, _mean_squares(x), draw.normal(row[1]) if weight else None, EPS

        chosen = how if weight else {"quick": how["quick"]}
        label = by(row) if weight else f"{by(row)}, no weight"
        yield from cross("rms_norm_forward", label, forward, work, **chosen)
        yield from cross("rms_norm_input_grad", label, grad, work, **chosen)

    def weight_grad(draw):
        x, dy = draw.data(*row), draw.normal(*row)
        return dy, x, _mean_squares(x), EPS

    yield from cross("rms_norm_weight_grad", by(row), weight_grad, work, **how)


def _mean_squares(x):
    return reference.rms_norm_forward(x, None, 0.0)[1]
