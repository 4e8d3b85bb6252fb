"""Operators of detection under the names of torchvision.ops.

    from fastconv.ops import RoIAlign, box_iou, nms

The functions are those of fastconv.functional.
"""

from fastconv.functional import (
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


__all__ = [
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
