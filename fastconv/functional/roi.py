"""Parts of images and volumes under boxes, brought to one size: roi_align and roi_pool, as in torchvision.ops."""

import math

from fastconv import autograd, backend
from fastconv import boxes as boxes_
from fastconv.arrays import check_float, check_same_dtype, is_array, namespace_of
from fastconv.errors import ShapeError
from fastconv.functional.box import as_number
from fastconv.functional.operands import accumulator, as_int, wrapped
from fastconv.window import per_axis


def roi_align(input, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
    """Averages of interpolated samples in the bins of boxes, as torchvision.ops.roi_align.

    Each box is cut into output_size bins, and each bin sampled at the centres of equal parts; a sample is the linear
    interpolation of its neighbours, and 0 more than one position outside the image. A box that is no part of the image,
    has a coordinate that is infinite or NaN, or, if aligned, has no extent, gives zeros. The result is linear in input.

    Args:
        input: [N, C, H, W], or volumes [N, C, D, H, W].
        boxes: [K, 5], of rows (image, x1, y1, x2, y2); or a list with an array [L, 4] for each image. For volumes
            [K, 7] and [L, 6], with z behind x and y. Dtype of input. No gradient flows to them.
        output_size: Bins, an int or one a spatial axis.
        spatial_scale: What coordinates are multiplied by to become positions.
        sampling_ratio: Samples of a bin along each axis; below 1 as many as it is long in positions, rounded up.
        aligned: Whether positions are moved by half of one, so that a pixel's centre is where its number says, and a
            box may be smaller than a position; False is how the first implementations did.

    Returns:
        [K, C, *output_size]; dtype, device and memory format of input; a Tensor if input or boxes is one.

    Raises:
        ShapeError: The shapes do not go together, a size is below 1, or a box names an image that is not there. On a
            GPU, where nobody waits for the answer, such a box gives NaN and its gradient is lost.
        DTypeError: The dtypes differ or are not floating, or an argument is of the wrong type.
        DeviceError: The arrays live on different devices.

    Source: He et al., Mask R-CNN, arXiv:1703.06870.
    """
    _, rois, output = _checked("roi_align", input, boxes, output_size)
    scale = float(as_number("roi_align", "spatial_scale", spatial_scale))
    rule = scale, as_int("roi_align", "sampling_ratio", sampling_ratio), bool(aligned)
    if rule[1] >= 2**31:
        raise ShapeError("roi_align", "sampling_ratio", rule[1], "less than 2**31")
    y = _align(input, rois, output, rule)
    return wrapped(y, *_listed(boxes)) if is_array(y) else y


def roi_pool(input, boxes, output_size, spatial_scale=1.0):
    """The largest elements in the bins of boxes, as torchvision.ops.roi_pool.

    Corners are rounded to whole positions, both of which belong to the box, and bins to what covers them. A bin outside
    the image gives 0. NaN is never taken for the largest: a bin of nothing else gives the least finite float32.

    Args:
        input: [N, C, H, W], or volumes [N, C, D, H, W].
        boxes: [K, 5], of rows (image, x1, y1, x2, y2); or a list with an array [L, 4] for each image. For volumes
            [K, 7] and [L, 6], with z behind x and y. Dtype of input. No gradient flows to them.
        output_size: Bins, an int or one a spatial axis.
        spatial_scale: What coordinates are multiplied by to become positions.

    Returns:
        [K, C, *output_size]; dtype, device and memory format of input; a Tensor if input or boxes is one.

    Raises:
        ShapeError: The shapes do not go together, a size is below 1, or a box names an image that is not there. On a
            GPU, where nobody waits for the answer, such a box gives NaN and its gradient is lost.
        DTypeError: The dtypes differ or are not floating, or an argument is of the wrong type.
        DeviceError: The arrays live on different devices.

    Source: Girshick, Fast R-CNN, arXiv:1504.08083.
    """
    x, rois, output = _checked("roi_pool", input, boxes, output_size)
    scale = float(as_number("roi_pool", "spatial_scale", spatial_scale))
    y, indices = backend.of(x, rois).roi_pool_forward(x, rois, output, scale)
    batch, size = x.shape[0], x.shape[2:]

    def rule(dy, _):
        return (lambda: _pool_input_grad(dy, rois, indices, batch, size, scale),)

    y = autograd.record("roi_pool", y, (input,), rule)
    return wrapped(y, *_listed(boxes)) if is_array(y) else y


def _align(x, rois, output, rule):
    """y [K, C, *output]."""
    plain = autograd.raw(x)
    y = backend.of(plain, rois).roi_align_forward(plain, rois, output, *rule)
    batch, size = x.shape[0], x.shape[2:]
    return autograd.record(
        "roi_align", y, (x,), lambda dy, _: (lambda: _align_input_grad(dy, rois, batch, size, rule),)
    )


def _align_input_grad(dy, rois, batch, size, rule):
    """dx [batch, C, *size]."""
    plain = autograd.raw(dy)
    dx = backend.of(plain, rois).roi_align_input_grad(plain, rois, batch, size, *rule)
    output = dy.shape[2:]
    return autograd.record("roi_align", dx, (dy,), lambda ddx, _: (lambda: _align(ddx, rois, output, rule),))


def _pool_input_grad(dy, rois, indices, batch, size, scale):
    """dx [batch, C, *size]."""
    plain = autograd.raw(dy)
    dx = backend.of(plain, rois).roi_pool_input_grad(plain, rois, indices, batch, size, scale)
    return autograd.record("roi_pool", dx, (dy,), lambda ddx, _: (lambda: _pool_gather(ddx, rois, indices, scale),))


def _pool_gather(x, rois, indices, scale):
    """Elements of x at the indices of each region, 0 where there is none: the transpose of _pool_input_grad."""
    plain = autograd.raw(x)
    xp = namespace_of(plain)
    batch, channels, *size = plain.shape
    image = boxes_.images(xp, rois, batch).reshape(-1, 1, 1)
    at = indices.reshape(*indices.shape[:2], math.prod(indices.shape[2:]))
    known = (at >= 0) & (image >= 0)
    at = xp.where(known, at, 0)
    taken = plain.reshape(batch, channels, math.prod(size))[
        xp.maximum(image, 0), xp.arange(channels).reshape(1, -1, 1), at
    ]
    y = xp.where(known, taken, xp.zeros((), plain.dtype)).astype(plain.dtype).reshape(indices.shape)
    rule = batch, tuple(size), scale
    return autograd.record("roi_pool", y, (x,), lambda dy, _: (lambda: _pool_input_grad(dy, rois, indices, *rule),))


def _checked(name, input, boxes, output_size):
    """The plain images, their regions [K, 1 + 2 * axes] and the output size as a tuple."""
    x = autograd.raw(input)
    check_float(name, "input", x)
    if x.ndim not in (4, 5):
        raise ShapeError(name, "input", list(x.shape), "[N, C, H, W] or [N, C, D, H, W]")
    rank = x.ndim - 2
    if 0 in x.shape[2:]:
        raise ShapeError(name, "input", list(x.shape), "at least one position on every spatial axis")
    output = per_axis(name, "output_size", output_size, rank, least=1)
    if not isinstance(boxes, (tuple, list)):
        rois = autograd.raw(boxes)
        check_same_dtype(name, "boxes", rois, "input", x)
        if rois.ndim != 2 or rois.shape[1] != 1 + 2 * rank:
            raise ShapeError(name, "boxes", list(rois.shape), f"[K, {1 + 2 * rank}]")
    else:
        rois = _numbered(name, x, boxes, rank)
    backend.of(x, rois)
    return x, rois, output


def _numbered(name, x, boxes, rank):
    """Boxes of a list, each with the number of its image in front, which a half might not hold."""
    if not boxes or len(boxes) > x.shape[0]:
        raise ShapeError(name, "boxes", f"a list of {len(boxes)}", f"an array for each of {x.shape[0]} images")
    parts = []
    for image, part in enumerate(map(autograd.raw, boxes)):
        check_same_dtype(name, "boxes", part, "input", x)
        if part.ndim != 2 or part.shape[1] != 2 * rank:
            raise ShapeError(name, "boxes", list(part.shape), f"[L, {2 * rank}] for each image")
        backend.of(x, part)
        xp, part = namespace_of(part), part.astype(accumulator(part.dtype))
        parts.append(xp.concatenate([xp.full((part.shape[0], 1), image, part.dtype), part], axis=1))
    return namespace_of(x).concatenate(parts, axis=0)


def _listed(boxes):
    return boxes if isinstance(boxes, (tuple, list)) else (boxes,)
