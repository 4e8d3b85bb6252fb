"""Pooling layers, 1-D to 3-D."""

from fastconv import functional
from fastconv.errors import ShapeError
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

_UNPOOL_DOC = """Maxima put back where they were found, zeros elsewhere, as torch.nn.MaxUnpool{rank}d.

    Args:
        kernel_size: Positions that a window spanned; an int or one a spatial axis.
        stride: Positions between windows; None is kernel_size.
        padding: Positions on each side.

    Shape:
        Maxima and indices as MaxPool{rank}d returns them in, [N, C, {size}] or [C, {size}] out, each size
        (maxima - 1) * stride + kernel_size - 2 * padding, or as the call's output_size says.
    """

_POWER_DOC = """Power average of each window, as torch.nn.LPPool{rank}d: (sum of x ** p) ** (1 / p).

    Args:
        norm_type: p, a number other than 0; inf is the largest absolute value.
        kernel_size: Positions that a window spans; an int{each}.
        stride: Input positions between windows; None is kernel_size.
        ceil_mode: Whether a last window that overhangs the input gives an output too.

    Shape:
        [N, C, {size}] or [C, {size}] in; out as many spatial axes, each of size
        (size - kernel_size) // stride + 1, rounded up with ceil_mode.
    """

_FRACTIONAL_DOC = """Largest element of each of windows at random steps, as torch.nn.FractionalMaxPool{rank}d.

    Args:
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        output_size: An int or one a spatial axis; or None for output_ratio.
        output_ratio: Output size / input size, between 0 and 1; or None for output_size.
        return_indices: Whether to return also where each maximum was found, in the flattened [{size}].
        _random_samples: [N, C, {rank}], where the steps begin; None draws them anew at each call, from the
            generator that fastconv.manual_seed seeds.

    Shape:
        [N, C, {size}] or [C, {size}] in, the same with output_size in place of {size} out.

    Raises:
        ShapeError: Not one of output_size and output_ratio is given, or a number is out of range.
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


def _tuple(value, rank=1):
    return value if isinstance(value, (tuple, list)) else (value,) * rank


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


class _MaxUnpool(Module):
    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        self.kernel_size = _tuple(kernel_size, self._rank)
        self.stride = _tuple(kernel_size if stride is None else stride, self._rank)
        self.padding = _tuple(padding, self._rank)

    def forward(self, input, indices, output_size=None):
        return self._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


@_documented(_UNPOOL_DOC, 1)
class MaxUnpool1d(_MaxUnpool):
    _rank = 1
    _function = staticmethod(functional.max_unpool1d)


@_documented(_UNPOOL_DOC, 2)
class MaxUnpool2d(_MaxUnpool):
    _rank = 2
    _function = staticmethod(functional.max_unpool2d)


@_documented(_UNPOOL_DOC, 3)
class MaxUnpool3d(_MaxUnpool):
    _rank = 3
    _function = staticmethod(functional.max_unpool3d)


class _LPPool(Module):
    def __init__(self, norm_type, kernel_size, stride=None, ceil_mode=False):
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return self._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self):
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


@_documented(_POWER_DOC, 1, each="")
class LPPool1d(_LPPool):
    _function = staticmethod(functional.lp_pool1d)


@_documented(_POWER_DOC, 2, each=" or one a spatial axis")
class LPPool2d(_LPPool):
    _function = staticmethod(functional.lp_pool2d)


@_documented(_POWER_DOC, 3, each=" or one a spatial axis")
class LPPool3d(_LPPool):
    _function = staticmethod(functional.lp_pool3d)


class _FractionalMaxPool(Module):
    def __init__(self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        super().__init__()
        name = type(self).__name__
        self.kernel_size = _tuple(kernel_size, self._rank)
        if not all(size > 0 for size in self.kernel_size):
            raise ShapeError(name, "kernel_size", kernel_size, "at least 1")
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else _tuple(output_size, self._rank)
        self.output_ratio = None if output_ratio is None else _tuple(output_ratio, self._rank)
        if (output_size is None) == (output_ratio is None):
            given = "neither" if output_size is None else "both"
            raise ShapeError(name, "output_size", f"{given} of output_size and output_ratio", "one of them")
        if output_ratio is not None and not all(0 < ratio < 1 for ratio in self.output_ratio):
            raise ShapeError(name, "output_ratio", output_ratio, "between 0 and 1")

    def forward(self, input):
        return self._function(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            _random_samples=self._random_samples,
        )  # fmt: skip


@_documented(_FRACTIONAL_DOC, 2)
class FractionalMaxPool2d(_FractionalMaxPool):
    _rank = 2
    _function = staticmethod(functional.fractional_max_pool2d)


@_documented(_FRACTIONAL_DOC, 3)
class FractionalMaxPool3d(_FractionalMaxPool):
    _rank = 3
    _function = staticmethod(functional.fractional_max_pool3d)
