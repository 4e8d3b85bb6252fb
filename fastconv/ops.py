"""Operators of detection under the names of torchvision.ops.

    from fastconv.ops import RoIAlign, box_iou, nms

The functions are those of fastconv.functional.
"""

import functools
import math

import numpy

from fastconv.arrays import describe, namespace_of, on_device_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional import (
    add,
    batched_nms,
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou,
    complete_box_iou_loss,
    distance_box_iou,
    distance_box_iou_loss,
    generalized_box_iou,
    generalized_box_iou_loss,
    masks_to_boxes,
    nms,
    remove_small_boxes,
    roi_align,
    roi_pool,
    sigmoid_focal_loss,
)
from fastconv.nn import Module


class RoIAlign(Module):
    """Averages of interpolated samples in the bins of boxes, as torchvision.ops.RoIAlign.

    Args:
        output_size: Bins, an int or one a spatial axis.
        spatial_scale: What coordinates are multiplied by to become positions.
        sampling_ratio: Samples of a bin along each axis; below 1 as many as it is long in positions, rounded up.
        aligned: Whether positions are moved by half of one; see fastconv.functional.roi_align.

    Shape:
        [N, C, H, W] and boxes [K, 5], or a list of [L, 4], in; out [K, C, *output_size]. Volumes likewise.
    """

    def __init__(self, output_size, spatial_scale, sampling_ratio, aligned=False):
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input, rois):
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self):
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


class RoIPool(Module):
    """The largest elements in the bins of boxes, as torchvision.ops.RoIPool.

    Args:
        output_size: Bins, an int or one a spatial axis.
        spatial_scale: What coordinates are multiplied by to become positions.

    Shape:
        [N, C, H, W] and boxes [K, 5], or a list of [L, 4], in; out [K, C, *output_size]. Volumes likewise.
    """

    def __init__(self, output_size, spatial_scale):
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input, rois):
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self):
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class MultiScaleRoIAlign(Module):
    """RoIAlign on the level of a feature pyramid that fits each box, as torchvision.ops.MultiScaleRoIAlign.

    A box of canonical_scale positions of the image, the square root of its area, belongs to level canonical_level, one
    of twice that length to the next; levels that the pyramid lacks fall to its nearest. Nothing waits for a GPU: boxes
    of other levels are passed over where they lie.

    Args:
        featmap_names: Names of the feature maps that are used.
        output_size: Bins, an int or one a spatial axis.
        sampling_ratio: Samples of a bin along each axis; below 1 as many as it is long in positions, rounded up.
        canonical_scale, canonical_level: See above.

    Shape:
        A dict from names to features [N, C, H, W], the finest first, each a power of two smaller than the images; a
        list of boxes [L, 4] in positions of the images; and a list of the sizes of the images in. Out
        [K, C, *output_size], in the order of the boxes.

    Source: Lin et al., Feature Pyramid Networks, arXiv:1612.03144, equation 1.
    """

    def __init__(self, featmap_names, output_size, sampling_ratio, *, canonical_scale=224, canonical_level=4):
        super().__init__()
        self.featmap_names = [featmap_names] if isinstance(featmap_names, str) else list(featmap_names)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level

    def forward(self, x, boxes, image_shapes):
        features = [value for key, value in x.items() if key in self.featmap_names]
        if not features:
            raise ShapeError(type(self).__name__, "x", sorted(x), f"one of {self.featmap_names}")
        if not isinstance(boxes, (tuple, list)):
            raise DTypeError(type(self).__name__, "boxes", describe(raw(boxes)), "a list with an array for each image")
        if not image_shapes:
            raise ShapeError(type(self).__name__, "image_shapes", "no image", "the size of each")
        powers = [_halvings(value, image_shapes) for value in features]
        if len(features) == 1:
            return roi_align(features[0], boxes, self.output_size, 2.0 ** -powers[0], self.sampling_ratio)
        levels = [self._levels(part, powers[0], powers[-1]) for part in boxes]
        parts = []
        for level, (feature, power) in enumerate(zip(features, powers, strict=True), powers[0]):
            chosen = [_only(part, of, level) for part, of in zip(boxes, levels, strict=True)]
            parts.append(roi_align(feature, chosen, self.output_size, 2.0**-power, self.sampling_ratio))
        return functools.reduce(add, parts)  # each box is zero on all levels but its own

    def _levels(self, boxes, least, most):
        """The level of each box, as floats: NaN of boxes that have none."""
        area = raw(box_area(boxes))
        xp, number = namespace_of(area), area.dtype.type
        with on_device_of(area), numpy.errstate(all="ignore"):
            length = xp.sqrt(area) if raw(boxes).shape[-1] == 4 else xp.power(area, number(1 / 3))
            level = xp.floor(self.canonical_level + xp.log2(length / number(self.canonical_scale)) + number(1e-6))
            return xp.minimum(xp.maximum(level, number(least)), number(most))

    def __repr__(self):
        return (
            f"{type(self).__name__}(featmap_names={self.featmap_names}, output_size={self.output_size}, "
            f"sampling_ratio={self.sampling_ratio})"
        )


def _halvings(feature, image_shapes):
    """How often the largest of the images was halved to become a feature map."""
    return -round(math.log2(raw(feature).shape[2] / max(shape[0] for shape in image_shapes)))


def _only(boxes, levels, level):
    """Boxes with coordinates that are NaN but for those of a level, which roi_align passes over."""
    x = raw(boxes)
    xp = namespace_of(x)
    with on_device_of(x):
        return xp.where((levels == level)[:, None], x, x.dtype.type(math.nan)).astype(x.dtype)


__all__ = [
    "MultiScaleRoIAlign",
    "RoIAlign",
    "RoIPool",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "complete_box_iou_loss",
    "distance_box_iou",
    "distance_box_iou_loss",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "masks_to_boxes",
    "nms",
    "remove_small_boxes",
    "roi_align",
    "roi_pool",
    "sigmoid_focal_loss",
]
