"""Reference roi_align and roi_pool, of images and volumes. Coordinates, samples and cells: fastconv.boxes.

roi_align: a sample at r >= -1, up to the size of the axis, reads low = floor(r), of r at least 0, and high = low + 1
with the shares 1 - (r - low) and r - low; both are the last position from there on, with the shares 1 and 0. An output
is the sum over the samples of its bin, along each axis, of share * x, divided by their number; 0 where there is none.
A share of zero counts as well: next to an infinity it makes NaN, as in torchvision.

roi_pool: the largest element of a cell, of equal ones the first, by > alone, from the least finite float32 on: of NaN
none is ever taken, as in torchvision. A cell without positions gives 0 and the index -1.
"""

import math

import numpy

from fastconv import boxes

_LEAST = -float(numpy.finfo("float32").max)
_FEW = 64  # samples of a bin that are looked at one by one


@numpy.errstate(over="ignore", invalid="ignore")
def roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """y [K, C, *output_size] of x [N, C, *size] and rois [K, 1 + 2 * axes]."""
    source, size = x.astype(numpy.float64, "C"), x.shape[2:]
    found = _samples(x.shape[0], rois, output_size, spatial_scale, sampling_ratio, aligned)
    y = numpy.zeros((rois.shape[0], x.shape[1], *output_size))
    for k in range(rois.shape[0]):
        part = source[found.image[k]]
        for axis, (target, (low, share)) in enumerate(_entries(found, k, size, output_size)):
            part = _moved(part, low, target, share, output_size[axis], axis + 1)
        y[k] = part / max(math.prod(found.count[k].tolist()), 1)
    return y.astype(x.dtype.newbyteorder("="), "C")


@numpy.errstate(over="ignore", invalid="ignore")
def roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned):
    """dx [N, C, *size] of dy [K, C, *output_size] and rois."""
    source, output_size = dy.astype(numpy.float64, "C"), dy.shape[2:]
    found = _samples(batch, rois, output_size, spatial_scale, sampling_ratio, aligned)
    dx = numpy.zeros((batch, dy.shape[1], *size))
    for k in range(rois.shape[0]):
        part = source[k] / max(math.prod(found.count[k].tolist()), 1)
        for axis, (target, (low, share)) in enumerate(_entries(found, k, size, output_size)):
            part = _moved(part, target, low, share, size[axis], axis + 1)
        dx[found.image[k]] += part
    return dx.astype(dy.dtype.newbyteorder("="), "C")


def roi_pool_forward(x, rois, output_size, spatial_scale):
    """y and indices [K, C, *output_size] of x [N, C, *size] and rois."""
    size, channels = x.shape[2:], x.shape[1]
    source = x.astype(numpy.float64, "C")
    found = boxes.cells(numpy, rois, x.shape[0], size, output_size, spatial_scale)
    boxes.check_images("roi_pool", found.image, x.shape[0])
    y = numpy.zeros((rois.shape[0], channels, *output_size))
    indices = numpy.full(y.shape, -1, numpy.int64)
    positions = numpy.arange(math.prod(size)).reshape(size)
    for k in range(rois.shape[0]):
        for p in numpy.ndindex(*output_size):
            cell = _cell(found, k, p, output_size)
            values = source[found.image[k]][(slice(None), *cell)]
            values = values.reshape(channels, math.prod(values.shape[1:]))
            if values.shape[1]:
                counted = numpy.where(values > _LEAST, values, _LEAST)
                best, chosen = counted.argmax(axis=1), counted.max(axis=1)
                y[(k, slice(None), *p)] = chosen
                indices[(k, slice(None), *p)] = numpy.where(chosen > _LEAST, positions[cell].reshape(-1)[best], -1)
    with numpy.errstate(over="ignore"):
        return y.astype(x.dtype.newbyteorder("="), "C"), indices


@numpy.errstate(over="ignore", invalid="ignore")
def roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale):
    """dx [N, C, *size] of dy and indices [K, C, *output_size]."""
    image = boxes.images(numpy, rois, batch)
    boxes.check_images("roi_pool", image, batch)
    dx = numpy.zeros((batch, dy.shape[1], math.prod(size)))
    source, indices = dy.astype(numpy.float64, "C"), indices.astype(numpy.int64, "C")
    for k, c in numpy.ndindex(*dy.shape[:2]):
        counted = indices[k, c] >= 0
        numpy.add.at(dx[image[k], c], indices[k, c][counted], source[k, c][counted])
    return dx.reshape(batch, dy.shape[1], *size).astype(dy.dtype.newbyteorder("="), "C")


def _samples(batch, rois, output_size, spatial_scale, sampling_ratio, aligned):
    found = boxes.samples(numpy, rois, batch, output_size, spatial_scale, sampling_ratio, aligned)
    boxes.check_images("roi_align", found.image, batch)
    return found


def _cell(found, k, p, output_size):
    """Slices of the positions of a bin."""
    firsts = 3 - len(output_size) + numpy.cumsum([0, *output_size[:-1]])
    return tuple(slice(found.begin[k, at + i], found.end[k, at + i]) for at, i in zip(firsts, p, strict=True))


def _entries(found, k, size, output_size):
    """For each axis the bins of its entries, and their positions and shares, in the order of the samples."""
    missing = 3 - len(size)
    result = []
    for axis, (positions, output) in enumerate(zip(size, output_size, strict=True), missing):
        start, length, count = found.start[k, axis], found.bin[k, axis], int(found.count[k, axis])
        bins, parts = [], []
        for p in range(output):
            r = _inside(start + start.dtype.type(p) * length, length, count, positions)
            low, share = _taps(r, positions)
            bins.append(numpy.full(low.size, p))
            parts.append((low, share))
        lows, shares = (numpy.concatenate(part) for part in zip(*parts, strict=True))
        result.append((numpy.concatenate(bins), (lows, shares)))
    return result


def _inside(base, length, count, size):
    """Coordinates of the samples of a bin that begins at base, but for those outside [-1, size]."""
    number = base.dtype.type

    def at(i):
        return base + (i.astype(base.dtype) + number(0.5)) * length / number(count)

    first, last = 0, count
    if count > _FEW and length > 0:  # they may be millions, of which few lie inside
        first = _first(lambda i: at(numpy.array(i)) >= -1, count)
        last = _first(lambda i: at(numpy.array(i)) > size, count)
    r = at(numpy.arange(first, last))
    return r[(r >= -1) & (r <= size)]


def _first(reached, count):
    """The first of so many numbers for which something holds that holds for all behind it."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low


def _taps(r, size):
    """Positions and shares that samples at r read, two for each."""
    number = r.dtype.type
    r = numpy.maximum(r, number(0))
    low = numpy.floor(r).astype(numpy.int64)
    last = low >= size - 1
    low = numpy.where(last, size - 1, low)
    rest = numpy.where(last, number(0), r - low.astype(r.dtype))
    high = numpy.where(last, low, low + 1)
    return numpy.stack([low, high], 1).reshape(-1), numpy.stack([number(1) - rest, rest], 1).reshape(-1)


def _moved(x, source, target, share, positions, axis):
    """Sums of share * x[source], by target, along one axis, which has so many positions afterwards."""
    x = numpy.moveaxis(x, axis, 0)
    y = numpy.zeros((positions, *x.shape[1:]))
    numpy.add.at(y, target, share.astype(numpy.float64).reshape(-1, *(1,) * (x.ndim - 1)) * x[source])
    return numpy.moveaxis(y, 0, axis)
