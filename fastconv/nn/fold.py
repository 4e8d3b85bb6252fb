"""Layers that take images apart into blocks and add blocks up to images."""

from fastconv import functional
from fastconv.nn.module import Module


class Unfold(Module):
    """Every block of an image that a sliding window sees as a column, as torch.nn.Unfold.

    Args:
        kernel_size: Positions of a block, an int or (vertical, horizontal), as those that follow.
        dilation: Input positions from one position of a block to the next.
        padding: Zeros on each side of the input.
        stride: Input positions from one block to the next.

    Shape:
        [N, C, H, W] or [C, H, W] in, [N, C * R * S, P * Q] or [C * R * S, P * Q] out.
    """

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Blocks added up to the image that they are of, as torch.nn.Fold.

    Args:
        output_size: Size of the image, (H, W) or an int for both.
        kernel_size: Positions of a block, an int or (vertical, horizontal), as those that follow.
        dilation: Output positions from one position of a block to the next.
        padding: Positions on each side of the output that are in blocks but not kept.
        stride: Output positions from one block to the next.

    Shape:
        [N, C * R * S, P * Q] or [C * R * S, P * Q] in, [N, C, H, W] or [C, H, W] out.
    """

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return functional.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
