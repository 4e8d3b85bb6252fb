"""Geometry of a sliding window, 1-D to 3-D: every check and every output size, once.

A window of `kernel` taps walks over an input [N, C, *size] and gives an output [N, K, *output].
Along each axis, output position p and tap r meet at input position

    p * stride - padding_before + r * dilation

and positions outside the input are padding. Letters and formulas: Dumoulin & Visin,
arXiv:1603.07285.
"""

import functools
import math
import operator as _operator
from typing import NamedTuple

from fastconv.arrays import check_float, check_same_dtype, describe
from fastconv.errors import DTypeError, ShapeError

# Of a stride, a size and the like: products of two still fit the 64 bits in which kernels compute offsets.
LARGEST = 2**31 - 1
_MOST_ELEMENTS = 2**48
_LETTERS = {1: "L", 2: "H, W", 3: "D, H, W"}


class Window(NamedTuple):
    """One problem of convolution or pooling, checked. Build it with a classmethod, never by hand.

    Attributes:
        operator: Public name of the function it was made for, for messages.
        batch: N.
        channels: C, channels of the input.
        filters: K, channels of the output; equal to C for pooling.
        groups: Independent convolutions that C and K are split into.
        size: Input positions along each axis; one to three of them, as in all that follow.
        kernel: Taps along each axis.
        stride: Input positions from one output position to the next.
        dilation: Input positions from one tap to the next.
        padding: (before, after) along each axis, in input positions.
        output: Output positions along each axis.
    """

    operator: str
    batch: int
    channels: int
    filters: int
    groups: int
    size: tuple
    kernel: tuple
    stride: tuple
    dilation: tuple
    padding: tuple
    output: tuple

    @property
    def rank(self):
        """Number of spatial axes: 1, 2 or 3."""
        return len(self.size)

    @property
    def input_shape(self):
        """[N, C, *size]."""
        return (self.batch, self.channels, *self.size)

    @property
    def weight_shape(self):
        """[K, C // groups, *kernel]."""
        return (self.filters, self.channels // self.groups, *self.kernel)

    @property
    def output_shape(self):
        """[N, K, *output]."""
        return (self.batch, self.filters, *self.output)

    def three_axes(self):
        """The same window with leading axes of size 1 added until there are three."""
        extra = 3 - self.rank
        return self._replace(
            size=(1,) * extra + self.size,
            kernel=(1,) * extra + self.kernel,
            stride=(1,) * extra + self.stride,
            dilation=(1,) * extra + self.dilation,
            padding=((0, 0),) * extra + self.padding,
            output=(1,) * extra + self.output,
        )

    @classmethod
    def conv(cls, input, weight, bias, stride, padding, dilation, groups, rank):
        """Check a convolution and compute its output size.

        Args:
            input: Array [N, C, *size].
            weight: Array [K, C // groups, *kernel], dtype of input.
            bias: Array [K] or None.
            stride, dilation: An int or one a spatial axis, at least 1.
            padding: An int, one a spatial axis, a (before, after) pair a spatial axis, "same" or "valid".
            groups: An int that divides C and K.
            rank: 1, 2 or 3 spatial axes.

        Returns:
            The Window.

        Raises:
            ShapeError: Shapes disagree or a number is out of range.
            DTypeError: A dtype is unsupported or mixed, or an argument is no array or no int.
        """
        _check_conv_arrays(f"conv{rank}d", input, weight, bias, rank)
        options = stride, padding, dilation, groups
        find = _conv_window if all(map(_is_plain, options)) else _conv_window.__wrapped__
        return find(input.shape, weight.shape, None if bias is None else bias.shape, *options, rank)

    @classmethod
    def conv_transpose(cls, input, weight, bias, stride, padding, output_padding, groups, dilation, rank):
        """Check a transposed convolution; the Window is that of the convolution it transposes.

        So the `size` and `channels` of the Window describe the result, its `output` and `filters` the input.

        Args:
            input: Array [N, C, *size].
            weight: Array [C, K // groups, *kernel], dtype of input.
            bias: Array [K] or None.
            stride, dilation: An int or one a spatial axis, at least 1.
            padding: An int, one a spatial axis or a (before, after) pair a spatial axis.
            output_padding: An int or one a spatial axis, below stride or dilation.
            groups: An int that divides C and K.
            rank: 1, 2 or 3 spatial axes.

        Returns:
            The Window of the convolution from the result back to the input.

        Raises:
            ShapeError: Shapes disagree or a number is out of range.
            DTypeError: A dtype is unsupported or mixed, or an argument is no array or no int.
        """
        _check_conv_arrays(f"conv_transpose{rank}d", input, weight, bias, rank)
        options = stride, padding, output_padding, groups, dilation
        find = _conv_transpose_window if all(map(_is_plain, options)) else _conv_transpose_window.__wrapped__
        return find(input.shape, weight.shape, None if bias is None else bias.shape, *options, rank)

    @classmethod
    def pool(cls, operator, input, kernel_size, stride, padding, dilation, ceil_mode, rank):
        """Check a pooling and compute its output size.

        Args:
            operator: Public name, such as "max_pool2d".
            input: Array [N, C, *size].
            kernel_size: An int or one a spatial axis, at least 1.
            stride: The same, or None for kernel_size.
            padding: An int, one a spatial axis or a (before, after) pair a spatial axis; at most half the kernel.
            dilation: An int or one a spatial axis, at least 1.
            ceil_mode: Whether a last window that overhangs the input gives an output.
            rank: 1, 2 or 3 spatial axes.

        Returns:
            The Window, filters equal to channels and groups 1. With ceil_mode a last window may reach past
            the padding: what is there counts as outside.

        Raises:
            ShapeError: A number is out of range or the window is larger than the padded input.
            DTypeError: input is no floating array, or an argument is no int.
        """
        check_images(operator, "input", input, rank)
        options = kernel_size, stride, padding, dilation
        find = _pool_window if all(map(_is_plain, options)) else _pool_window.__wrapped__
        return find(operator, input.shape, *options, bool(ceil_mode), rank)


@functools.lru_cache(maxsize=1024)  # a network asks for the same few again and again
def _conv_window(input, weight, bias, stride, padding, dilation, groups, rank):
    """The Window of Window.conv for arrays of these shapes."""
    name = f"conv{rank}d"
    stride = per_axis(name, "stride", stride, rank, least=1)
    dilation = per_axis(name, "dilation", dilation, rank, least=1)
    groups = _check_groups(name, groups)
    batch, channels, *size = input
    filters, _, *kernel = weight
    if channels % groups:
        raise ShapeError(name, "groups", groups, f"a divisor of the {channels} channels of input")
    if filters % groups:
        raise ShapeError(name, "groups", groups, f"a divisor of the {filters} filters of weight")
    if weight[1] != channels // groups:
        raise ShapeError(
            name,
            "weight",
            list(weight),
            f"[K, {channels // groups}, ...], C // groups channels for input {list(input)} and groups={groups}",
        )
    _check_bias(name, bias, filters)
    padding = conv_padding(name, padding, stride, dilation, kernel, rank)
    if 0 in size and batch and channels:
        raise ShapeError(name, "input", list(input), "at least one position on every spatial axis")
    output = []
    for i in range(rank):
        span = dilation[i] * (kernel[i] - 1) + 1
        padded = size[i] + sum(padding[i])
        if span > padded:
            raise ShapeError(
                name,
                "weight",
                f"a kernel that spans {span} positions of axis {i + 2}",
                f"at most the {padded} positions of the padded input",
            )
        output.append((padded - span) // stride[i] + 1)
    return _addressable(
        Window(
            name, batch, channels, filters, groups, tuple(size), tuple(kernel), stride, dilation, padding, tuple(output)
        )
    )


@functools.lru_cache(maxsize=1024)
def _conv_transpose_window(input, weight, bias, stride, padding, output_padding, groups, dilation, rank):
    """The Window of Window.conv_transpose for arrays of these shapes."""
    name = f"conv_transpose{rank}d"
    stride = per_axis(name, "stride", stride, rank, least=1)
    dilation = per_axis(name, "dilation", dilation, rank, least=1)
    extra = per_axis(name, "output_padding", output_padding, rank, least=0)
    groups = _check_groups(name, groups)
    padding = padding_pairs(name, padding, rank)
    batch, channels, *size = input
    kernel = weight[2:]
    filters = weight[1] * groups
    if channels % groups:
        raise ShapeError(name, "groups", groups, f"a divisor of the {channels} channels of input")
    if weight[0] != channels:
        raise ShapeError(name, "weight", list(weight), f"[{channels}, ...], the channels of input {list(input)}")
    if filters == 0:
        raise ShapeError(name, "weight", list(weight), "at least one filter")
    _check_bias(name, bias, filters)
    result = []
    for i in range(rank):
        if extra[i] >= max(stride[i], dilation[i]):
            raise ShapeError(
                name,
                "output_padding",
                extra[i],
                f"less than stride or dilation, {stride[i]} and {dilation[i]} on axis {i + 2}",
            )
        if size[i] == 0 and batch:
            raise ShapeError(name, "input", list(input), "at least one position on every spatial axis")
        full = (size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + extra[i]
        result.append(full - sum(padding[i]))
        if result[i] < 1:
            raise ShapeError(
                name, "padding", sum(padding[i]), f"less than the {full} positions of the result on axis {i + 2}"
            )
    return _addressable(
        Window(
            name, batch, filters, channels, groups, tuple(result), tuple(kernel), stride, dilation, padding, tuple(size)
        )
    )


@functools.lru_cache(maxsize=1024)
def _pool_window(operator, input, kernel_size, stride, padding, dilation, ceil_mode, rank):
    """The Window of Window.pool for an array of this shape."""
    kernel = per_axis(operator, "kernel_size", kernel_size, rank, least=1)
    # torch spells "the kernel's own stride" both as None and as an empty tuple.
    unset = stride is None or (isinstance(stride, (tuple, list)) and len(stride) == 0)
    stride = kernel if unset else per_axis(operator, "stride", stride, rank, least=1)
    dilation = per_axis(operator, "dilation", dilation, rank, least=1)
    padding = padding_pairs(operator, padding, rank)
    batch, channels, *size = input
    output = []
    for i in range(rank):
        span = dilation[i] * (kernel[i] - 1) + 1
        if max(padding[i]) > kernel[i] // 2:  # PyTorch's limit: dilation does not widen it
            raise ShapeError(operator, "padding", list(padding[i]), f"at most half the kernel: {kernel[i] // 2}")
        if size[i] == 0:
            raise ShapeError(operator, "input", list(input), "at least one position on every spatial axis")
        padded = size[i] + sum(padding[i])
        rest = padded - span
        count = (rest + (stride[i] - 1 if ceil_mode else 0)) // stride[i] + 1
        if ceil_mode and (count - 1) * stride[i] >= size[i] + padding[i][0]:
            count -= 1  # a window that starts in the padding after the input sees nothing
        if count < 1:
            raise ShapeError(
                operator,
                "kernel_size",
                f"a window that spans {span} positions of axis {i + 2}",
                f"at most the {padded} positions of the padded input",
            )
        output.append(count)
    return _addressable(
        Window(operator, batch, channels, channels, 1, tuple(size), kernel, stride, dilation, padding, tuple(output))
    )


def _is_plain(option):
    """Whether equal options mean the same: True is 1, but is refused."""
    if type(option) is tuple:
        return all(type(value) is int for value in option)
    return option is None or type(option) is int or type(option) is str


def adaptive_output(operator, input, output_size, rank, one_of_nothing=False):
    """Check an adaptive pooling.

    Args:
        operator: Public name, such as "adaptive_avg_pool2d".
        input: Array [N, C, *size].
        output_size: An int or one a spatial axis; of two or three None keeps the size of the input.
        rank: 1, 2 or 3 spatial axes.
        one_of_nothing: Whether an empty spatial axis is accepted if the output is one position.

    Returns:
        The output size, an int a spatial axis. Output position p covers the input positions from
        floor(p * size / output) up to, not including, ceil((p + 1) * size / output).

    Raises:
        ShapeError: A size is negative, or the input has an empty spatial axis.
        DTypeError: input is no floating array, or a size is no int.
    """
    check_images(operator, "input", input, rank)
    if isinstance(output_size, (tuple, list)):
        if len(output_size) != rank:
            raise ShapeError(operator, "output_size", list(output_size), f"an int or {rank} of them")
        sizes = zip(output_size, input.shape[2:], strict=True)
        # PyTorch knows None only within a tuple, and only of two or three.
        given = tuple(size if wanted is None and rank > 1 else wanted for wanted, size in sizes)
    else:
        given = (output_size,) * rank
    output = tuple(_whole(operator, "output_size", wanted, least=0) for wanted in given)
    if 0 in input.shape[2:] and not (one_of_nothing and output == (1,) * rank):
        raise ShapeError(operator, "input", list(input.shape), "at least one position on every spatial axis")
    return output


def check_images(operator, argument, value, rank):
    """Refuse whatever is no floating array [N, C, *size] with `rank` spatial axes.

    Raises:
        DTypeError: value is no array of a supported floating dtype.
        ShapeError: value has another number of axes.
    """
    check_float(operator, argument, value)
    if value.ndim != rank + 2:
        raise ShapeError(
            operator,
            argument,
            f"{value.ndim} axes {list(value.shape)}",
            f"{rank + 1} or {rank + 2} axes: [C, {_LETTERS[rank]}] or [N, C, {_LETTERS[rank]}]",
        )


def per_axis(operator, argument, value, rank, least):
    """An int, or one a spatial axis, as a tuple of `rank` ints.

    Raises:
        DTypeError: value holds something that is no int.
        ShapeError: The wrong number of values, or one below `least`.
    """
    if isinstance(value, (tuple, list)):
        if len(value) == 1:  # torch broadcasts a tuple of one
            value = tuple(value) * rank
        if len(value) != rank:
            raise ShapeError(operator, argument, list(value), f"an int or a tuple of {rank}")
        return tuple(_whole(operator, argument, v, least) for v in value)
    return (_whole(operator, argument, value, least),) * rank


def padding_pairs(operator, padding, rank):
    """An int, one a spatial axis, or a pair a spatial axis, as `rank` pairs (before, after).

    Raises:
        DTypeError: padding holds something that is no int.
        ShapeError: The wrong number of values, or a negative one.
    """
    expected = f"an int, a tuple of {rank}, or {rank} pairs (before, after)"
    if isinstance(padding, str):
        raise DTypeError(operator, "padding", repr(padding), expected)
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != rank or not all(isinstance(p, (tuple, list)) and len(p) == 2 for p in padding):
            raise ShapeError(operator, "padding", list(padding), expected)
        return tuple(tuple(_whole(operator, "padding", side, least=0) for side in pair) for pair in padding)
    return tuple((p, p) for p in per_axis(operator, "padding", padding, rank, least=0))


def conv_padding(operator, padding, stride, dilation, kernel, rank):
    """Padding of a convolution as pairs, "same" and "valid" included."""
    if not isinstance(padding, str):
        return padding_pairs(operator, padding, rank)
    if padding == "valid":
        return ((0, 0),) * rank
    if padding != "same":
        raise ShapeError(operator, "padding", repr(padding), '"same", "valid" or numbers')
    if any(s != 1 for s in stride):
        raise ShapeError(operator, "stride", list(stride), '1 on every axis, as padding="same" needs')
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple((t // 2, t - t // 2) for t in total)  # the odd one goes after, as in PyTorch


def _check_conv_arrays(operator, input, weight, bias, rank):
    """Ranks and dtypes of the three arrays of a convolution."""
    check_images(operator, "input", input, rank)
    check_same_dtype(operator, "weight", weight, "input", input)
    if weight.ndim != rank + 2:
        raise ShapeError(operator, "weight", f"{weight.ndim} axes {list(weight.shape)}", f"{rank + 2} axes")
    if 0 in weight.shape[2:]:
        raise ShapeError(operator, "weight", list(weight.shape), "at least one tap on every spatial axis")
    if weight.shape[0] == 0:
        raise ShapeError(operator, "weight", list(weight.shape), "at least one filter")
    if bias is not None:
        check_same_dtype(operator, "bias", bias, "input", input)


def _addressable(window):
    """window, unless its input or output has more elements than any memory."""
    for shape in (window.input_shape, window.output_shape):
        if math.prod(shape) > _MOST_ELEMENTS:
            raise ShapeError(window.operator, "output", list(shape), f"at most {_MOST_ELEMENTS} elements")
    return window


def _check_bias(operator, bias, filters):
    if bias is not None and bias != (filters,):
        raise ShapeError(operator, "bias", list(bias), f"[{filters}], one a filter")


def _check_groups(operator, groups):
    return _whole(operator, "groups", groups, least=1)


def _whole(operator, argument, value, least):
    """value as an int, refused below `least`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = _operator.index(value)
    except TypeError:
        raise DTypeError(operator, argument, describe(value), "an int or a tuple of ints") from None
    if number < least:
        raise ShapeError(operator, argument, number, f"at least {least}")
    if number > LARGEST:
        raise ShapeError(operator, argument, number, f"at most {LARGEST}")
    return number
