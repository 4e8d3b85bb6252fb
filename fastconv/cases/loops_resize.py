"""Resizing by loops over single elements: see fastconv.cases.loops.

The positions that meet and their shares depend on how coordinates are rounded, which follows the dtype of the images.
"""

import collections
import fractions
import itertools
import math

import numpy

from fastconv.cases.sums import exact_sums

__all__ = ["resize_forward", "resize_input_grad"]


def resize_forward(x, output_size, mode, align_corners, scales):
    """y [N, C, *output_size]."""
    terms = collections.defaultdict(list)
    for n, c in numpy.ndindex(*x.shape[:2]):
        for p, i, share in _meetings(x.shape[2:], output_size, mode, align_corners, scales, x.dtype):
            terms[(n, c, *p)].append(share * float(x[(n, c, *i)]))
    return exact_sums((*x.shape[:2], *output_size), terms)


def resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]."""
    terms = collections.defaultdict(list)
    for n, c in numpy.ndindex(*dy.shape[:2]):
        for p, i, share in _meetings(size, dy.shape[2:], mode, align_corners, scales, dy.dtype):
            terms[(n, c, *i)].append(share * float(dy[(n, c, *p)]))
    return exact_sums((*dy.shape[:2], *size), terms)


def _meetings(size, output, mode, align_corners, scales, dtype):
    """(output position, input position, share) of all that meet when an image is resized."""
    number = numpy.float64 if dtype.name == "float64" else numpy.float32
    find = _neighbours
    if "antialias" in mode:
        find = _weighed
    elif "nearest" in mode and len(output) == 2 and sum(output) <= 128:
        find = _nearest_of_small
    axes = [
        find(s, o, mode, align_corners, scale, number)
        for s, o, scale in zip(size, output, scales or (None,) * len(size), strict=True)
    ]
    for entries in itertools.product(*axes):
        p, i, shares = zip(*entries, strict=True)
        yield p, i, math.prod(shares)


def _scale(size, output, aligned, factor, number):
    if aligned:
        return number(size - 1) / number(output - 1) if output > 1 else number(0)
    return number(size) / number(output) if factor is None else number(1 / factor)


def _neighbours(size, output, mode, align_corners, factor, number):
    """The same of one axis, in coordinates of the dtype `number`."""
    aligned = align_corners and "nearest" not in mode
    scale = _scale(size, output, aligned, factor, number)
    for p in range(output):
        moved = fractions.Fraction(p) if mode == "nearest" or aligned else fractions.Fraction(2 * p + 1, 2)
        back = moved - p
        r = fractions.Fraction(float(scale)) * moved - back
        r = number(r if mode == "cubic" else max(r, 0))
        low = min(math.floor(numpy.float32(r + number(0.5 if mode == "nearest-exact" else 0))), size - 1)
        rest = min(max(r - number(low), number(0)), number(1))
        if "nearest" in mode:
            yield p, low, 1.0
        elif mode == "cubic":
            for away in (-1, 0, 1, 2):
                distance = {-1: rest + number(1), 0: rest, 1: number(1) - rest, 2: (number(1) - rest) + number(1)}[away]
                yield p, min(max(low + away, 0), size - 1), float(_cubic(distance, number(-0.75)))
        elif size == output:
            yield p, p, 1.0
            yield p, p, 0.0
        else:
            yield p, low, float(number(1) - rest)
            yield p, min(low + 1, size - 1), float(rest)


def _nearest_of_small(size, output, mode, align_corners, factor, number):
    scale = _scale(size, output, False, factor, numpy.float32)
    for p in range(output):
        if mode == "nearest-exact":
            yield p, min(int(numpy.float32((p + 0.5) * float(scale))), size - 1), 1.0
        elif output in (size, 2 * size):
            yield p, p * size // output, 1.0
        else:
            yield p, min(int(numpy.float32(p) * scale), size - 1), 1.0


def _weighed(size, output, mode, align_corners, factor, number):
    if size == output:
        yield from ((p, p, 1.0) for p in range(output))
        return
    scale = float(_scale(size, output, align_corners, factor, number))
    reach = {"linear": 1.0, "cubic": 2.0, "lanczos": 3.0}[mode.removesuffix("-antialias")]
    support = number(reach * max(scale, 1.0))
    for p in range(output):
        center = number(scale * (p + 0.5))
        first = max(int(float(center - support) + 0.5), 0)
        reached = range(first, min(int(float(center + support) + 0.5), size, first + 2 * math.ceil(support) + 1))
        distances = [number(abs(float(number(i) - center) + 0.5) * float(number(1 / max(scale, 1.0)))) for i in reached]
        weights = [float(_filter(mode, x, number)) if x < reach else 0.0 for x in distances]
        for i, weight in zip(reached, weights, strict=True):
            yield p, i, float(number(weight / (sum(weights) or 1.0)))


def _filter(mode, x, number):
    if mode == "linear-antialias":
        return 1 - x
    if mode == "cubic-antialias":
        return _cubic(x, number(-0.5))
    return _sinc(x) * _sinc(x / number(3))


def _sinc(x):
    turned = x * type(x)(math.pi)
    return numpy.sin(turned) / turned if turned else 1.0


def _cubic(x, a):
    """Keys' cubic, of x from 0 to 2; in float32 sums of a product are rounded once."""

    def fused(a, b, c):
        return type(x)(float(a) * float(b) + float(c))

    if x <= 1:
        return fused(fused(a + 2, x, -(a + 3)) * x, x, 1)
    return fused(fused(fused(a, x, -5 * a), x, 8 * a), x, -4 * a)
