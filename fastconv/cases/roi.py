"""Cases of roi_align and roi_pool, forward and back."""

import math

import numpy

from fastconv import reference
from fastconv.cases.case import by, cross
from fastconv.cases.storage import EVERY_STORAGE

# N, C, size, regions, output size, scale
PROBLEMS = [
    (1, 1, (1, 1), 1, (1, 1), 1.0),
    (2, 3, (5, 7), 4, (2, 3), 1.0),
    (1, 5, (9, 4), 3, (7, 7), 0.5),
    (3, 2, (6, 6), 5, (1, 4), 1.7),
    (1, 33, (4, 5), 2, (2, 2), 1.0),
    (2, 3, (4, 5), 0, (2, 2), 1.0),
    (2, 0, (4, 5), 2, (2, 2), 1.0),
    (2, 2, (3, 5, 4), 3, (2, 3, 2), 0.9),
]
STORED = (2, 8, (5, 6), 4, (3, 2), 1.0)
SHARED = (2, 40, (30, 33), 40, (5, 5), 1.0)

# sampling_ratio, aligned
RULES = [(-1, False), (2, True)]


def cases():
    """Cases of the four operators."""
    for row in PROBLEMS:
        yield from _cases(row, quick=row[3] > 0)
    yield from _cases(STORED, fills=("normal", "special"), storages=EVERY_STORAGE, quick=True)
    yield from _cases(SHARED, quick=False)


def regions(draw, row):
    """Regions of a row in the dtype of the case: some reach beyond the image, lie outside, or have no extent; as
    "special" some coordinates are infinite or NaN."""
    batch, _, size, count, _, scale = row
    extent = numpy.array(size[::-1]) / scale
    low = draw.generator.uniform(-0.3, 0.9, (count, len(size))) * extent
    high = low + draw.generator.uniform(-0.05, 0.7, low.shape) * extent
    if count > 2:
        low[1], high[1] = 0, extent
        high[2] = low[2] = numpy.rint(low[2])
    if draw.fill == "special":
        low[0, 0], high[-1, -1] = numpy.nan, numpy.inf
    image = draw.generator.integers(0, batch, (count, 1))
    return numpy.ascontiguousarray(numpy.concatenate([image, low, high], axis=1).astype(draw.dtype))


def _cases(row, **how):
    batch, channels, size, count, output, scale = row
    text = f"{by((batch, channels, *size))}, {count} regions to {by(output)}" + (f" by {scale}" if scale != 1 else "")
    results = count * channels * math.prod(output)
    samples = math.prod(max(s / o + 1, 2) for s, o in zip(size, output, strict=True)) * 2 ** len(size)
    for sampling_ratio, aligned in RULES:
        rule = scale, sampling_ratio, aligned
        words = f"{text}, {sampling_ratio} samples" + (", aligned" if aligned else "")

        def align(draw, rule=rule):
            return draw.data(batch, channels, *size), regions(draw, row), output, *rule

        def align_grad(draw, rule=rule):
            return draw.data(count, channels, *output), regions(draw, row), batch, size, *rule

        yield from cross("roi_align_forward", words, align, int(results * samples), **how)
        yield from cross("roi_align_input_grad", words, align_grad, int(results * samples), **how)

    def pool(draw):
        return draw.data(batch, channels, *size), regions(draw, row), output, scale

    def pool_grad(draw):
        x, rois, *rest = pool(draw)
        _, indices = reference.roi_pool_forward(x, rois, *rest)
        return draw.data(count, channels, *output), rois, indices, batch, size, scale

    yield from cross("roi_pool_forward", text, pool, int(results * samples), **how)
    yield from cross("roi_pool_input_grad", text, pool_grad, results + batch * channels * math.prod(size), **how)
