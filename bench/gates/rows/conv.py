"""Convolutions."""

from bench.gates.row import Row, draw
from fastconv import cuda
from fastconv.cuda import conv_depthwise
from fastconv.window import Window

_CHANNELS = 64
# Of planes of halves: a lane widens 16 bytes and stores 32, so that the lanes of a store lie two accesses apart.
_WIDENING = {("float16", False): {"conflicts": 1.1}}
# By memory format, of gathers and of the weight gradient: rows of 28 pixels fill no sectors, so that they are written
# through shared memory in an order of their own; taps are spread over it, and totals gathered from it, once a block.
_SMALL_PLANES = (({"conflicts": 1.15}, {}), ({}, {"conflicts": 1.02}))
# Of weight gradients channels first: taps move runs of 16 pixels off the sectors that they would fill.
_SHIFTED = 1.5


def rows():
    """Rows of 3x3 filters."""
    yield from depthwise_rows()
    for last in (False, True):
        kind = f"{'last' if last else 'first'} float32"
        products = 2 * 64 * 64 * 16 * 16 * 9

        def operands(last=last):
            x, w = draw(2, 64, 16, 16, last=last), draw(64, 64, 3, 3, last=True)
            return x, w, Window.conv(x, w, None, stride=1, padding=1, dilation=1, groups=1, rank=2)

        def images(operands=operands):
            x, _, window = operands()
            return x, x.copy(order="K"), window  # y is as large as x

        dense = {"bytes": None, "multiply_adds": products}
        shifted = {} if last else {"sectors": _SHIFTED}
        yield Row(f"conv forward implicit_gemm {kind}", operands, implicit_gemm, **dense)
        yield Row(f"conv input_grad implicit_gemm {kind}", operands, implicit_gemm_input_grad, **dense)
        yield Row(f"conv weight_grad implicit_gemm {kind}", images, cuda.conv_weight_grad, **dense, **shifted)
        yield Row(f"conv bias_grad {kind}", lambda make=operands: make()[:1], cuda.conv_bias_grad)


def implicit_gemm(x, w, window):
    """y of x."""
    return cuda.conv_forward(x, w, None, window)


def implicit_gemm_input_grad(dy, w, window):
    """dx of dy, which has the shape of x here."""
    return cuda.conv_input_grad(dy, w, None, window)


def depthwise_rows():
    """Rows of the depthwise kernels, 3x3 in both widths and 7x7 on small planes."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            limits = _WIDENING.get((dtype, last), {})
            yield from _depthwise_rows("", (2, _CHANNELS, 32, 32), 3, dtype, last, limits, {})
    for last in (False, True):
        yield from _depthwise_rows(" 7x7", (1, _CHANNELS, 28, 28), 7, "float32", last, *_SMALL_PLANES[last])


def _depthwise_rows(name, shape, taps, dtype, last, gather, weight_grad):
    channels, padding = shape[1], taps // 2

    def operands():
        x, w = draw(*shape, dtype=dtype, last=last), draw(channels, 1, taps, taps, dtype=dtype)
        return x, w, Window.conv(x, w, None, 1, padding, 1, channels, rank=2)

    def images():
        x, _, window = operands()
        return x, x.copy(order="K"), window  # y is as large as x

    kind = f"{'last' if last else 'first'} {dtype}"
    yield Row(f"conv forward depthwise{name} {kind}", operands, forward, **gather)
    yield Row(f"conv input_grad depthwise{name} {kind}", operands, input_grad, **gather)
    yield Row(f"conv weight_grad depthwise{name} {kind}", images, conv_depthwise.weight_grad, **weight_grad)


def forward(x, w, window):
    """y of x."""
    return conv_depthwise.forward(x, w, None, window)


def input_grad(dy, w, window):
    """dx of dy, which has the shape of x here."""
    return conv_depthwise.input_grad(dy, w, None, window)
