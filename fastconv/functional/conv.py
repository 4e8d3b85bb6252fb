"""Convolution and transposed convolution, 1-D to 3-D, and their gradients.

    y[n,k,p] = b[k] + sum over c, r of x[n, c, p * stride - padding + r * dilation] * w[k,c,r]

Three operators are closed under differentiation: convolution, its input gradient (which is the
transposed convolution) and its weight gradient. Each rule below is written with the other two, and with
the gradient of a bias, a sum.
Source: Dumoulin & Visin, arXiv:1603.07285.
"""

from fastconv import autograd, backend
from fastconv.functional.shape import broadcast_to, reshape, squeeze, unsqueeze
from fastconv.window import Window

_CONV_DOC = """Cross-correlate {what} with a bank of filters, as torch.nn.functional.conv{rank}d.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        weight: Filters, [K, C // groups, {kernel}]; dtype and device of input.
        bias: [K], or None.
        stride: Input positions between output positions; an int or one a spatial axis.
        padding: Zeros on each side in input positions: an int or one a spatial axis, "valid", or
            "same" for an output as large as the input; or a pair (before, after) a spatial axis,
            such as {pairs}, which PyTorch does not have.
        dilation: Input positions between taps; an int or one a spatial axis.
        groups: Independent convolutions that C and K are split into.

    Returns:
        [N, K, {output}], each output size (size + before + after - dilation * (kernel - 1) - 1) // stride + 1;
        dtype, device and memory format of input; a Tensor if any argument is one.

    Raises:
        ShapeError: Shapes disagree, a number is out of range, or the kernel is larger than the padded input.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Dumoulin & Visin, arXiv:1603.07285.
    """

_TRANSPOSE_DOC = """Transposed convolution of {what}, as torch.nn.functional.conv_transpose{rank}d.

    It is the gradient of conv{rank}d with respect to its input, used as an operator of its own.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        weight: Filters, [C, K // groups, {kernel}]; dtype and device of input.
        bias: [K], or None.
        stride: Output positions between input positions; an int or one a spatial axis.
        padding: Output positions cut off each side: an int or one a spatial axis, or a pair
            (before, after) a spatial axis, such as {pairs}, which PyTorch does not have.
        output_padding: Output positions added after each axis; less than stride or dilation.
        groups: Independent convolutions that C and K are split into.
        dilation: Output positions between taps; an int or one a spatial axis.

    Returns:
        [N, K, {output}], each output size
        (size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1;
        dtype, device and memory format of input; a Tensor if any argument is one.

    Raises:
        ShapeError: Shapes disagree or a number is out of range.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Dumoulin & Visin, arXiv:1603.07285, chapter 4.
    """

_WORDS = {
    1: dict(what="sequences", size="L", kernel="R", output="P", pairs="((2, 0),)"),
    2: dict(what="images", size="H, W", kernel="R, S", output="P, Q", pairs="((1, 2), (0, 1))"),
    3: dict(what="volumes", size="D, H, W", kernel="T, R, S", output="O, P, Q", pairs="((1, 2), (0, 1), (1, 1))"),
}


def _documented(template, rank):
    def decorate(function):
        function.__doc__ = template.format(rank=rank, **_WORDS[rank])
        return function

    return decorate


@_documented(_CONV_DOC, 1)
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv_checked(input, weight, bias, stride, padding, dilation, groups, rank=1)


@_documented(_CONV_DOC, 2)
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv_checked(input, weight, bias, stride, padding, dilation, groups, rank=2)


@_documented(_CONV_DOC, 3)
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return _conv_checked(input, weight, bias, stride, padding, dilation, groups, rank=3)


@_documented(_TRANSPOSE_DOC, 1)
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose_checked(input, weight, bias, stride, padding, output_padding, groups, dilation, rank=1)


@_documented(_TRANSPOSE_DOC, 2)
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose_checked(input, weight, bias, stride, padding, output_padding, groups, dilation, rank=2)


@_documented(_TRANSPOSE_DOC, 3)
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return _conv_transpose_checked(input, weight, bias, stride, padding, output_padding, groups, dilation, rank=3)


def _conv_checked(input, weight, bias, stride, padding, dilation, groups, rank):
    x, unbatched = with_batch(input, rank)
    window = Window.conv(*autograd.arrays(x, weight, bias), stride, padding, dilation, groups, rank)
    y = _conv(x, weight, bias, window)
    return squeeze(y, 0) if unbatched else y


def conv_activated(input, weight, bias, stride, padding, dilation, groups, rank, activation):
    """activation of conv1d to conv3d, "relu", "gelu" or "silu", which no gradient passes."""
    x, unbatched = with_batch(input, rank)
    operands = autograd.arrays(x, weight, bias)
    window = Window.conv(*operands, stride, padding, dilation, groups, rank)
    y = autograd.Tensor(backend.of(*operands).conv_forward(*operands, window, activation))
    return squeeze(y, 0) if unbatched else y


def _conv_transpose_checked(input, weight, bias, stride, padding, output_padding, groups, dilation, rank):
    x, unbatched = with_batch(input, rank)
    window = Window.conv_transpose(
        *autograd.arrays(x, weight, bias), stride, padding, output_padding, groups, dilation, rank
    )
    y = _conv_input_grad(x, weight, bias, window)
    return squeeze(y, 0) if unbatched else y


def with_batch(input, rank):
    """input with a batch axis, and whether it had none; what is no array is left for Window to refuse."""
    unbatched = getattr(input, "ndim", None) == rank + 1
    return (unsqueeze(input, 0) if unbatched else input), unbatched


def _conv(x, w, b, window):
    """y [N, K, *output]."""
    y = backend.of(*autograd.arrays(x, w, b)).conv_forward(*autograd.arrays(x, w, b), window)
    kept_x, kept_w = autograd.read_by_gradients(x, w)

    def rule(dy, _):
        return (
            lambda: _conv_input_grad(dy, kept_w, None, window),
            lambda: _conv_weight_grad(kept_x, dy, window),
            lambda: _conv_bias_grad(dy, window.operator),
        )

    return autograd.record(window.operator, y, (x, w, b), rule, saves=(kept_x, kept_w))


def _conv_input_grad(dy, w, b, window):
    """dx [N, C, *size], plus b [C]: a transposed convolution."""
    dx = backend.of(*autograd.arrays(dy, w, b)).conv_input_grad(*autograd.arrays(dy, w, b), window)
    kept_dy, kept_w = autograd.read_by_gradients(dy, w)

    def rule(ddx, _):
        return (
            lambda: _conv(ddx, kept_w, None, window),
            lambda: _conv_weight_grad(ddx, kept_dy, window),
            lambda: _conv_bias_grad(ddx, window.operator),
        )

    return autograd.record(window.operator, dx, (dy, w, b), rule, saves=(kept_dy, kept_w))


def _conv_weight_grad(x, dy, window):
    """dw [K, C // groups, *kernel]."""
    dw = backend.of(*autograd.arrays(x, dy)).conv_weight_grad(*autograd.arrays(x, dy), window)
    kept_x, kept_dy = autograd.read_by_gradients(x, dy)

    def rule(ddw, _):
        return (
            lambda: _conv_input_grad(kept_dy, ddw, None, window),
            lambda: _conv(kept_x, ddw, None, window),
        )

    return autograd.record(window.operator, dw, (x, dy), rule, saves=(kept_x, kept_dy))


def _conv_bias_grad(dy, operator):
    """db [K]."""
    (values,) = autograd.arrays(dy)
    db = backend.of(values).conv_bias_grad(values)
    shape = values.shape

    def rule(ddb, _):
        return (lambda: broadcast_to(reshape(ddb, 1, shape[1], *(1,) * (len(shape) - 2)), *shape),)

    return autograd.record(operator, db, (dy,), rule)
