"""Operators of detection by loops over single boxes and elements: see fastconv.cases.loops."""

import collections
import itertools
import math

import numpy

__all__ = ["nms", "roi_align_forward", "roi_align_input_grad", "roi_pool_forward", "roi_pool_input_grad"]

_LEAST = -float(numpy.finfo("float32").max)


@numpy.errstate(all="ignore")
def nms(boxes, order, groups, iou_threshold):
    """Positions of the boxes that are kept; numbers of NumPy round every step to their dtype."""
    number = numpy.float64 if boxes.dtype.name == "float64" else numpy.float32
    kept = []
    for j in order.tolist():
        rivals = kept if groups is None else [i for i in kept if groups[i] == groups[j]]
        if not any(_overlap(boxes, i, j, number) > iou_threshold for i in rivals):
            kept.append(j)
    return numpy.array(kept, "int64")


def _overlap(boxes, i, j, number):
    axes = boxes.shape[1] // 2
    areas, inter = [number(1), number(1)], number(1)
    for axis in range(axes):
        (a, b), (c, d) = ((number(boxes[k, axis]), number(boxes[k, axes + axis])) for k in (i, j))
        areas = [areas[0] * (b - a), areas[1] * (d - c)]
        side = min(b, d) - max(a, c)
        inter = inter * (side if side > 0 else number(0))
    return float(inter / (areas[0] + areas[1] - inter))


def roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """y [K, C, *output_size]."""
    y = numpy.zeros((len(rois), x.shape[1], *output_size))
    for k, p, samples, count in _bins(rois, x.shape[2:], output_size, spatial_scale, sampling_ratio, aligned):
        for c in range(x.shape[1]):
            y[(k, c, *p)] = sum(share * float(x[(int(rois[k, 0]), c, *i)]) for i, share in samples) / count
    return y


def roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned):
    """dx [batch, C, *size]."""
    terms = collections.defaultdict(list)
    for k, p, samples, count in _bins(rois, size, dy.shape[2:], spatial_scale, sampling_ratio, aligned):
        for c in range(dy.shape[1]):
            for i, share in samples:
                terms[(int(rois[k, 0]), c, *i)].append(share * float(dy[(k, c, *p)]) / count)
    return _added((batch, dy.shape[1], *size), terms)


def roi_pool_forward(x, rois, output_size, spatial_scale):
    """y and indices [K, C, *output_size]."""
    y, size = numpy.zeros((len(rois), x.shape[1], *output_size)), x.shape[2:]
    indices = numpy.full(y.shape, -1, "int64")
    for k, p in itertools.product(range(len(rois)), numpy.ndindex(*output_size)):
        ranges = [_cell(rois[k], axis, size, output_size, spatial_scale, p[axis]) for axis in range(len(size))]
        cell = list(itertools.product(*ranges))
        for c in range(x.shape[1]):
            largest = _LEAST if cell else 0.0
            for i in cell:
                value = float(x[(int(rois[k, 0]), c, *i)])
                if value > largest:
                    largest, indices[(k, c, *p)] = value, numpy.ravel_multi_index(i, size)
            y[(k, c, *p)] = largest
    return y, indices


def roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale):
    """dx [batch, C, *size]."""
    terms = collections.defaultdict(list)
    for at in numpy.ndindex(*dy.shape):
        if indices[at] >= 0:
            terms[(int(rois[at[0], 0]), at[1], *numpy.unravel_index(indices[at], size))].append(float(dy[at]))
    return _added((batch, dy.shape[1], *size), terms)


def _added(shape, terms):
    result = numpy.zeros(shape)
    for at, values in terms.items():
        result[at] = math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
    return result


def _ends(roi, axis, rank, number, scale):
    """Both ends of a region on one of the spatial axes, of which the last one is x."""
    return (number(roi[i]) * number(scale) for i in (rank - axis, 2 * rank - axis))


@numpy.errstate(all="ignore")
def _bins(rois, size, output_size, spatial_scale, sampling_ratio, aligned):
    """(region, bin, (position, share) of all that its samples read, number of samples) of every bin."""
    number, rank = numpy.float64 if rois.dtype.name == "float64" else numpy.float32, len(size)
    for k, roi in enumerate(rois):
        axes = []
        for axis in range(rank):
            low, high = (end - number(0.5 if aligned else 0) for end in _ends(roi, axis, rank, number, spatial_scale))
            length = high - low
            if not aligned and not math.isnan(length):
                length = max(length, number(1))
            part = length / number(output_size[axis])
            known = math.isfinite(low) and math.isfinite(part)
            count = (sampling_ratio if sampling_ratio > 0 else max(math.ceil(part), 0)) if known else 0
            axes.append((low, part, count))
        for p in numpy.ndindex(*output_size):
            reads = [_reads(*axes[axis], p[axis], size[axis], number) for axis in range(rank)]
            samples = [
                (tuple(i for i, _ in taps), math.prod(float(share) for _, share in taps))
                for sample in itertools.product(*reads)
                for taps in itertools.product(*sample)
            ]
            yield k, p, samples, max(math.prod(count for _, _, count in axes), 1)


def _reads(low, part, count, p, size, number):
    """For each sample of a bin inside the image two positions and their shares."""
    for i in range(count):
        r = low + number(p) * part + (number(i) + number(0.5)) * part / number(count)
        if not -1 <= r <= size:
            continue
        r = max(r, number(0))
        first = min(int(r), size - 1)
        rest = number(0) if first == size - 1 else r - number(first)
        yield (first, number(1) - rest), (min(first + 1, size - 1), rest)


@numpy.errstate(all="ignore")
def _cell(roi, axis, size, output_size, scale, p):
    """Positions that a bin covers on one axis."""
    number = numpy.float64 if roi.dtype.name == "float64" else numpy.float32
    ends = [float(end) for end in _ends(roi, axis, len(size), number, scale)]
    if any(map(math.isnan, ends)):
        return range(0)
    low, high = (int(math.copysign(math.floor(abs(min(max(e, -(2.0**31)), 2.0**31 - 1)) + 0.5), e)) for e in ends)
    part = number(max(high - low + 1, 1)) / number(output_size[axis])
    begin, end = int(numpy.floor(number(p) * part)) + low, int(numpy.ceil(number(p + 1) * part)) + low
    return range(min(max(begin, 0), size[axis]), min(max(end, 0), size[axis]))
