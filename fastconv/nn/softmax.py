"""Softmax and its relatives as modules."""

from fastconv import functional
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.nn.activation import Activation


class Softmax(Activation):
    """exp(x) over the sum of exp(x) along an axis, as torch.nn.Softmax.

    Args:
        dim: The axis.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.softmax)

    def __init__(self, dim=None):
        super().__init__(dim=dim)


class LogSoftmax(Activation):
    """Logarithm of softmax, computed without overflow, as torch.nn.LogSoftmax.

    Args:
        dim: The axis.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.log_softmax)

    def __init__(self, dim=None):
        super().__init__(dim=dim)


class Softmin(Activation):
    """softmax of -x, as torch.nn.Softmin.

    Args:
        dim: The axis.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.softmin)

    def __init__(self, dim=None):
        super().__init__(dim=dim)


class Softmax2d(Activation):
    """softmax over the channels of images, as torch.nn.Softmax2d.

    Shape:
        [N, C, H, W] or [C, H, W] in, the same out.

    Raises:
        ShapeError: The input has another number of axes.
    """

    def __init__(self):
        super().__init__()

    def forward(self, input):
        shape = raw(input).shape
        if len(shape) not in (3, 4):
            raise ShapeError("Softmax2d", "input", list(shape), "[N, C, H, W] or [C, H, W]")
        return functional.softmax(input, -3)
