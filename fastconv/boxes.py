"""What all backends have to agree on about boxes, to the last bit.

A region of interest is a row (image, x1, y1, x2, y2), or (image, x1, y1, z1, x2, y2, z2) for volumes; bins cut it into
equal parts along each axis. Coordinates are float64 for float64 and float32 otherwise, every operation rounded once.

    roi_align   a = scale * x1 - offset, b likewise; length = b - a, unless aligned at least 1; bin = length / output
                sample i of bin p lies at (a + p * bin) + ((i + 1/2) * bin) / samples
    roi_pool    a = scale * x1 rounded to a whole number, half away from zero; length = max(b - a + 1, 1)
                bin p covers the positions from floor(p * bin) + a to before ceil((p + 1) * bin) + a

Sources: He et al., Mask R-CNN, arXiv:1703.06870; Girshick, Fast R-CNN, arXiv:1504.08083; torchvision/csrc/ops/cpu.
"""

from typing import NamedTuple

import numpy

from fastconv.arrays import accumulator
from fastconv.errors import ShapeError

_MOST = 2**31 - 128  # a float32 that fits 32 bits
_FAR = 2.0**31  # coordinates of roi_pool end there


class Samples(NamedTuple):
    """Where roi_align samples regions; arrays of NumPy or CuPy, one entry a region and axis, missing axes in front.

    Attributes:
        image: int64 [K]; -1 for a region of an image that does not exist.
        start: [K, 3], where the first bin begins.
        bin: [K, 3], length of a bin.
        count: int32 [K, 3], samples of a bin; 0 where a coordinate is no finite number.
    """

    image: object
    start: object
    bin: object
    count: object


class Cells(NamedTuple):
    """Which positions roi_pool takes the largest of.

    Attributes:
        image: int64 [K]; -1 for a region of an image that does not exist.
        begin, end: int32 [K, bins of all axes], those of missing axes in front: a bin covers [begin, end).
    """

    image: object
    begin: object
    end: object


def rounded_down(threshold, dtype):
    """The largest number of a floating dtype that is not above a number.

    What is above the one is above the other, so that overlaps of the dtype need not be widened to be compared.

    Args:
        threshold: A float.
        dtype: float32 or float64.

    Returns:
        A scalar of the dtype.
    """
    with numpy.errstate(over="ignore"):
        number = dtype.type(threshold)
    return numpy.nextafter(number, dtype.type(-numpy.inf)) if float(number) > threshold else number


@numpy.errstate(all="ignore")
def samples(xp, rois, batch, output_size, spatial_scale, sampling_ratio, aligned):
    """The Samples of regions.

    Args:
        xp: numpy or cupy.
        rois: [K, 5] or [K, 7].
        batch: Images that there are.
        output_size: Bins of each axis.
        spatial_scale: What coordinates are multiplied by.
        sampling_ratio: Samples of a bin along each axis; as many as it is long, rounded up, if that is below 1.
        aligned: Whether coordinates are moved by half a position, and regions may be shorter than one.

    Returns:
        Samples in the accumulator dtype of rois.
    """
    rank = len(output_size)
    rois = rois.astype(accumulator(rois.dtype))
    number = rois.dtype.type
    missing = 3 - rank
    ones = xp.ones(rois.shape[0], rois.dtype)
    starts, bins, counts = [0 * ones] * missing, [ones] * missing, [ones] * missing
    for axis, output in enumerate(output_size):
        low, high = (side * number(spatial_scale) - number(0.5 if aligned else 0) for side in _sides(rois, rank, axis))
        length = high - low if aligned else xp.maximum(high - low, number(1))
        size = length / number(output)
        count = xp.ceil(size) if sampling_ratio < 1 else ones * number(sampling_ratio)
        known = xp.isfinite(low) & xp.isfinite(size)
        starts.append(low)
        bins.append(size)
        counts.append(xp.where(known, xp.minimum(xp.maximum(count, number(0)), number(_MOST)), number(0)))
    start, size, count = (xp.stack(parts, axis=1) for parts in (starts, bins, counts))
    return Samples(images(xp, rois, batch), start, size, count.astype("int32"))


@numpy.errstate(all="ignore")
def extent(xp, found, output_size):
    """Positions that regions may read; those outside may lie a little further than what is read.

    Args:
        xp: numpy or cupy.
        found: The Samples.
        output_size: Bins of each axis.

    Returns:
        int32 [K, 6]: for each axis the first one, and for each the last; none for a region without samples.
    """
    start, size = found.start.astype("float64"), found.bin.astype("float64")
    bins = (*(1,) * (3 - len(output_size)), *output_size)
    stop = xp.stack([start[:, axis] + bins[axis] * size[:, axis] for axis in range(3)], axis=1)
    low, high = xp.minimum(start, stop), xp.maximum(start, stop)
    slack = 2 + 1e-5 * xp.maximum(xp.abs(low), xp.abs(high))  # more than all roundings of a coordinate together
    some = (found.count > 0).all(axis=1)[:, None]
    first = xp.where(some, xp.minimum(xp.maximum(low - slack, -2.0), float(_MOST)), 1.0)
    last = xp.where(some, xp.minimum(xp.maximum(high + slack, -2.0), float(_MOST)), -1.0)
    return xp.concatenate([xp.floor(first), xp.floor(last)], axis=1).astype("int32")


@numpy.errstate(all="ignore")
def cells(xp, rois, batch, size, output_size, spatial_scale):
    """The Cells of regions.

    Args:
        xp: numpy or cupy.
        rois: [K, 5] or [K, 7].
        batch: Images that there are.
        size: Positions of each axis.
        output_size: Bins of each axis.
        spatial_scale: What coordinates are multiplied by.

    Returns:
        Cells.
    """
    rank = len(size)
    rois = rois.astype(accumulator(rois.dtype))
    number = rois.dtype.type
    nothing = xp.zeros((rois.shape[0], 3 - rank), "float64")
    begins, ends = [nothing], [nothing + 1]
    for axis, (positions, output) in enumerate(zip(size, output_size, strict=True)):
        low, high = (_rounded(xp, side * number(spatial_scale)) for side in _sides(rois, rank, axis))
        length = xp.maximum(high - low + 1, 1.0).astype(rois.dtype) / number(output)
        bins = xp.arange(output + 1).astype(rois.dtype)
        edges = length[:, None] * bins[None]
        begin = xp.floor(edges[:, :-1]).astype("float64") + low[:, None]
        end = xp.ceil(edges[:, 1:]).astype("float64") + low[:, None]
        for edge, parts in ((begin, begins), (end, ends)):
            within = xp.minimum(xp.maximum(edge, 0.0), float(positions))
            parts.append(xp.where(within == within, within, 0.0))
    begin, end = (xp.concatenate(parts, axis=1).astype("int32") for parts in (begins, ends))
    return Cells(images(xp, rois, batch), begin, end)


@numpy.errstate(invalid="ignore")
def images(xp, rois, batch):
    """Numbers of the images of regions.

    Args:
        xp: numpy or cupy.
        rois: [K, 5] or [K, 7].
        batch: Images that there are.

    Returns:
        int64 [K], cut off to whole numbers; -1 for those that do not exist.
    """
    number = xp.trunc(rois[:, 0].astype("float64"))
    return xp.where((number >= 0) & (number < batch), number, -1.0).astype("int64")


def check_images(operator, image, batch):
    """Refuse regions of images that do not exist.

    Raises:
        ShapeError: There is such a region.
    """
    if image.size and image.min() < 0:
        k = int(image.argmin())
        raise ShapeError(operator, "boxes", f"no image of the batch for box {k}", f"image 0 to {batch - 1}")


def _sides(rois, rank, axis):
    """Both ends along one of the spatial axes, which lie in the order of the sizes: x belongs to the last one."""
    at = rank - axis
    return rois[:, at], rois[:, rank + at]


def _rounded(xp, x):
    """The nearest whole numbers, halves away from zero, as float64."""
    x = xp.minimum(xp.maximum(x.astype("float64"), -_FAR), _FAR - 1)
    whole = xp.trunc(x)
    return whole + xp.where(xp.abs(x - whole) >= 0.5, xp.sign(x), 0.0)
