"""Layers that rearrange channels and pixels."""

from fastconv import functional
from fastconv.nn.module import Module


class PixelShuffle(Module):
    """Blocks of channels become blocks of pixels, as torch.nn.PixelShuffle.

    Args:
        upscale_factor: r, by which height and width grow.

    Shape:
        [..., C * r * r, H, W] in, [..., C, H * r, W * r] out.
    """

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input):
        return functional.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self):
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Blocks of pixels become blocks of channels, as torch.nn.PixelUnshuffle.

    Args:
        downscale_factor: r, by which height and width are divided.

    Shape:
        [..., C, H * r, W * r] in, [..., C * r * r, H, W] out.
    """

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input):
        return functional.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self):
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels of all groups take turns, as torch.nn.ChannelShuffle.

    Args:
        groups: How many groups the channels are divided into.

    Shape:
        [N, C, *size] in and out.
    """

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, input):
        return functional.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"
