"""Convolution layers, 1-D to 3-D, plain and transposed."""

from fastconv import functional
from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.linear import reset_uniform
from fastconv.nn.module import Module
from fastconv.nn.parameter import new_parameter
from fastconv.window import conv_padding, padding_pairs, per_axis

_CONV_DOC = """Convolution of {what} with filters that are learned, as torch.nn.Conv{rank}d.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, channels of the result.
        kernel_size: Taps of a filter; an int or one a spatial axis.
        stride: Input positions between output positions; an int or one a spatial axis.
        padding: Zeros on each side: an int or one a spatial axis, "valid", or "same" for an output as
            large as the input; or a pair (before, after) a spatial axis, which PyTorch does not have.
        dilation: Input positions between taps; an int or one a spatial axis.
        groups: Independent convolutions that the channels are split into.
        bias: Whether a bias is added.
        padding_mode: What is on each side: "zeros"; "reflect", the mirrored input; "replicate", its edge; or
            "circular", its other end.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        [N, C, {size}] or [C, {size}] in, [N, K, {output}] or [K, {output}] out, each output size
        (size + before + after - dilation * (kernel_size - 1) - 1) // stride + 1.
        weight is [K, C // groups, {kernel}], bias [K].

    Raises:
        ShapeError: groups does not divide the channels, or a number is out of range.
        DTypeError: A number is no int, or dtype is not floating.
    """

_TRANSPOSE_DOC = """Transposed convolution of {what} with filters that are learned, as torch.nn.ConvTranspose{rank}d.

    Args:
        in_channels: C, channels of the input.
        out_channels: K, channels of the result.
        kernel_size: Taps of a filter; an int or one a spatial axis.
        stride: Output positions between input positions; an int or one a spatial axis.
        padding: Output positions cut off each side; an int, one a spatial axis, or a pair (before,
            after) a spatial axis, which PyTorch does not have.
        output_padding: Output positions added after each axis; less than stride or dilation.
        groups: Independent convolutions that the channels are split into.
        bias: Whether a bias is added.
        dilation: Output positions between taps; an int or one a spatial axis.
        padding_mode: "zeros", the only mode.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        [N, C, {size}] or [C, {size}] in, [N, K, {output}] or [K, {output}] out, each output size
        (size - 1) * stride - before - after + dilation * (kernel_size - 1) + output_padding + 1.
        weight is [C, K // groups, {kernel}], bias [K].

    Raises:
        ShapeError: groups does not divide the channels, or a number is out of range.
        DTypeError: A number is no int, or dtype is not floating.
    """

_WORDS = {
    1: dict(what="sequences", size="L", kernel="R", output="P"),
    2: dict(what="images", size="H, W", kernel="R, S", output="P, Q"),
    3: dict(what="volumes", size="D, H, W", kernel="T, R, S", output="O, P, Q"),
}


def _documented(cls):
    cls.__doc__ = cls._template.format(rank=cls._rank, **_WORDS[cls._rank])
    return cls


class _ConvNd(Module):
    """What plain and transposed convolutions share: checked options and the two parameters."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups,
        bias, padding_mode, device, dtype,
    ):  # fmt: skip
        super().__init__()
        name, rank = type(self).__name__, self._rank
        (in_channels,) = per_axis(name, "in_channels", in_channels, 1, least=0)
        (out_channels,) = per_axis(name, "out_channels", out_channels, 1, least=0)
        (groups,) = per_axis(name, "groups", groups, 1, least=1)
        for argument, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value % groups:
                raise ShapeError(name, "groups", groups, f"a divisor of {argument}, {value}")
        modes = ("zeros",) if transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ShapeError(name, "padding_mode", repr(padding_mode), " or ".join(map(repr, modes)))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, rank, least=1)
        self.stride = per_axis(name, "stride", stride, rank, least=1)
        self.padding = padding if isinstance(padding, str) else _checked_padding(name, padding, rank)
        self.dilation = per_axis(name, "dilation", dilation, rank, least=1)
        self.transposed = transposed
        self.output_padding = per_axis(name, "output_padding", output_padding, rank, least=0)
        self.groups = groups
        self.padding_mode = padding_mode
        inner, outer = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = new_parameter((inner, outer // groups, *self.kernel_size), device, dtype)
        self.register_parameter("bias", new_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new parameters, uniform within 1 / sqrt(fan_in), as PyTorch does."""
        reset_uniform(self.weight, self.bias)

    def extra_repr(self):
        rank = self._rank
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * rank:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * rank:
            text += f", dilation={self.dilation}"
        if any(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        text += "" if self.bias is not None else ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Conv(_ConvNd):
    _template = _CONV_DOC

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
        padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip
        name = type(self).__name__
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ShapeError(name, "padding", repr(padding), '"same", "valid" or numbers')
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ShapeError(name, "stride", list(self.stride), '1 on every axis, as padding="same" needs')

    def forward(self, input):
        input, padding = self._padded(input)
        return self._function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padded(self, input):
        """input with what is not zeros on each side, and the padding with zeros that is left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        name = type(self).__name__
        pairs = conv_padding(name, self.padding, self.stride, self.dilation, self.kernel_size, self._rank)
        return functional.pad(input, sum(reversed(pairs), ()), self.padding_mode), 0


class _ConvTranspose(_ConvNd):
    _template = _TRANSPOSE_DOC

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
        dilation=1, padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        name = type(self).__name__
        if isinstance(padding, str):
            raise DTypeError(name, "padding", repr(padding), "numbers")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input, output_size=None):
        """Transposed convolution of input.

        Args:
            input: [N, C, *size] or [C, *size].
            output_size: Sizes of the spatial axes of the result, or its whole shape; replaces output_padding.

        Raises:
            ShapeError: No output_padding below stride gives this size.
        """
        extra = self.output_padding if output_size is None else self._output_padding(input, output_size)
        return self._function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _output_padding(self, input, output_size):
        """The output_padding with which the result has the spatial axes asked for."""
        name, rank = type(self).__name__, self._rank
        if not isinstance(output_size, (tuple, list)):
            raise DTypeError(name, "output_size", describe(output_size), f"a tuple of {rank} ints")
        wanted = output_size[-rank:]
        if len(output_size) not in (rank, input.ndim):
            raise ShapeError(name, "output_size", list(output_size), f"{rank} or {input.ndim} sizes")
        padding = padding_pairs(name, self.padding, rank)
        extra = []
        for i, size in enumerate(input.shape[-rank:]):
            least = (size - 1) * self.stride[i] - sum(padding[i]) + self.dilation[i] * (self.kernel_size[i] - 1) + 1
            most = least + self.stride[i] - 1
            if not least <= wanted[i] <= most:
                raise ShapeError(name, "output_size", list(output_size), f"{least} to {most} on spatial axis {i}")
            extra.append(wanted[i] - least)
        return tuple(extra)


def _checked_padding(name, padding, rank):
    """Padding as PyTorch keeps it, one number a spatial axis; or as pairs where it was given so."""
    pairs = padding_pairs(name, padding, rank)
    given_as_pairs = isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding)
    return pairs if given_as_pairs else tuple(before for before, _ in pairs)


@_documented
class Conv1d(_Conv):
    _rank, _function = 1, staticmethod(functional.conv1d)


@_documented
class Conv2d(_Conv):
    _rank, _function = 2, staticmethod(functional.conv2d)


@_documented
class Conv3d(_Conv):
    _rank, _function = 3, staticmethod(functional.conv3d)


@_documented
class ConvTranspose1d(_ConvTranspose):
    _rank, _function = 1, staticmethod(functional.conv_transpose1d)


@_documented
class ConvTranspose2d(_ConvTranspose):
    _rank, _function = 2, staticmethod(functional.conv_transpose2d)


@_documented
class ConvTranspose3d(_ConvTranspose):
    _rank, _function = 3, staticmethod(functional.conv_transpose3d)
