"""Pooling layers, 1-D to 3-D."""

from fastconv import functional
from fastconv.nn.module import Module

_MAX_DOC = """Largest element of each window, as torch.nn.MaxPool{rank}d.

    Args:
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        stride: Input positions between windows; None is kernel_size.
        padding: Positions on each side that are never a maximum, at most half of kernel_size; or a
            pair (before, after) a spatial axis, which PyTorch does not have.
        dilation: Input positions between the elements of a window.
        return_indices: Whether to return also where each maximum was found, in the flattened [{size}].
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.

    Shape:
        [N, C, {size}] or [C, {size}] in; out as many spatial axes, each of size
        (size + before + after - dilation * (kernel_size - 1) - 1) // stride + 1, rounded up with ceil_mode.
    """

_AVG_DOC = """Mean of each window, as torch.nn.AvgPool{rank}d.

    Args:
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        stride: Input positions between windows; None is kernel_size.
        padding: Zeros on each side, at most half of kernel_size; or a pair (before, after) a spatial
            axis, which PyTorch does not have.
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.
        count_include_pad: Whether the padding counts as elements of a window.{divisor}

    Shape:
        [N, C, {size}] or [C, {size}] in; out as many spatial axes, each of size
        (size + before + after - kernel_size) // stride + 1, rounded up with ceil_mode.
    """

_ADAPTIVE_DOC = """{what} of as many windows as asked for, as torch.nn.Adaptive{kind}Pool{rank}d.

    Args:
        output_size: An int or one a spatial axis; None keeps the input's size.{return_indices}

    Shape:
        [N, C, {size}] or [C, {size}] in, the same with output_size in place of {size} out.
    """

_SIZES = {1: "L", 2: "H, W", 3: "D, H, W"}
_DIVISOR = "\n        divisor_override: What to divide each sum by instead of the number of elements."
_RETURN_INDICES = (
    "\n        return_indices: Whether to return also where each maximum was found, in the flattened [{size}]."
)


def _documented(template, rank, **parts):
    def decorate(cls):
        filled = {name: part.format(size=_SIZES[rank]) for name, part in parts.items()}
        cls.__doc__ = template.format(rank=rank, size=_SIZES[rank], **filled)
        return cls

    return decorate


def _tuple(value):
    return value if isinstance(value, (tuple, list)) else (value,)


class _MaxPool(Module):
    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return self._function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self):
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class _AvgPool(Module):
    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input):
        return self._function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptiveAvgPool(Module):
    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, input):
        return self._function(input, self.output_size)

    def extra_repr(self):
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(Module):
    def __init__(self, output_size, return_indices=False):
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input):
        return self._function(input, self.output_size, self.return_indices)

    def extra_repr(self):
        return f"output_size={self.output_size}"


@_documented(_MAX_DOC, 1)
class MaxPool1d(_MaxPool):
    _function = staticmethod(functional.max_pool1d)


@_documented(_MAX_DOC, 2)
class MaxPool2d(_MaxPool):
    _function = staticmethod(functional.max_pool2d)


@_documented(_MAX_DOC, 3)
class MaxPool3d(_MaxPool):
    _function = staticmethod(functional.max_pool3d)


@_documented(_AVG_DOC, 1, divisor="")
class AvgPool1d(_AvgPool):
    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        # PyTorch keeps tuples in this class alone.
        self.kernel_size, self.stride, self.padding = map(_tuple, (self.kernel_size, self.stride, self.padding))

    def forward(self, input):
        return functional.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


@_documented(_AVG_DOC, 2, divisor=_DIVISOR)
class AvgPool2d(_AvgPool):
    _function = staticmethod(functional.avg_pool2d)


@_documented(_AVG_DOC, 3, divisor=_DIVISOR)
class AvgPool3d(_AvgPool):
    _function = staticmethod(functional.avg_pool3d)


@_documented(_ADAPTIVE_DOC, 1, what="Mean", kind="Avg", return_indices="")
class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    _function = staticmethod(functional.adaptive_avg_pool1d)


@_documented(_ADAPTIVE_DOC, 2, what="Mean", kind="Avg", return_indices="")
class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    _function = staticmethod(functional.adaptive_avg_pool2d)


@_documented(_ADAPTIVE_DOC, 3, what="Mean", kind="Avg", return_indices="")
class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    _function = staticmethod(functional.adaptive_avg_pool3d)


@_documented(_ADAPTIVE_DOC, 1, what="Largest element", kind="Max", return_indices=_RETURN_INDICES)
class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    _function = staticmethod(functional.adaptive_max_pool1d)


@_documented(_ADAPTIVE_DOC, 2, what="Largest element", kind="Max", return_indices=_RETURN_INDICES)
class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    _function = staticmethod(functional.adaptive_max_pool2d)


@_documented(_ADAPTIVE_DOC, 3, what="Largest element", kind="Max", return_indices=_RETURN_INDICES)
class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    _function = staticmethod(functional.adaptive_max_pool3d)
