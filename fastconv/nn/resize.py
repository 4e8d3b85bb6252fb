"""Layers that resize, 1-D to 3-D."""

from fastconv import functional
from fastconv.nn.module import Module


class Upsample(Module):
    """Resize signals, images or volumes, as torch.nn.Upsample.

    Args:
        size: Output size, an int or one a spatial axis; or None.
        scale_factor: Output size / input size, a number or one a spatial axis; or None. One of the two is given.
        mode: "nearest", "nearest-exact", "area", "linear", "bilinear", "trilinear" or "bicubic": see
            functional.interpolate.
        align_corners: For the linear and cubic modes, whether the first and last positions of input and output
            coincide.
        recompute_scale_factor: Whether the scale follows from the sizes even where scale_factor is given.

    Shape:
        [N, C, L], [N, C, H, W] or [N, C, D, H, W] in; out as many axes, of size `size` or floor(size * scale_factor).
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        super().__init__()
        self.name = type(self).__name__
        self.size = size
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return functional.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self):
        given = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{given}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Repeat the pixels of images, as torch.nn.UpsamplingNearest2d.

    Args:
        size: Output size, an int or (H, W); or None.
        scale_factor: Output size / input size, a number or one a spatial axis; or None. One of the two is given.

    Shape:
        [N, C, H, W] in; out the same with the given size or floor(size * scale_factor).
    """

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Interpolate images linearly between aligned corners, as torch.nn.UpsamplingBilinear2d.

    Args:
        size: Output size, an int or (H, W); or None.
        scale_factor: Output size / input size, a number or one a spatial axis; or None. One of the two is given.

    Shape:
        [N, C, H, W] in; out the same with the given size or floor(size * scale_factor).
    """

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)
