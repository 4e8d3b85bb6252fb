"""Convolutions."""

from bench.gates.row import Row, draw
from fastconv import cuda
from fastconv.cuda import conv_depthwise
from fastconv.window import Window

_CHANNELS = 64
# Of planes of halves: a lane widens 16 bytes and stores 32, so that the lanes of a store lie two accesses apart.
_WIDENING = {("float16", False): {"conflicts": 1.1}}
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
    """Rows of the depthwise kernels."""
    for dtype in ("float16", "float32"):
        for last in (False, True):

            def operands(dtype=dtype, last=last):
                x, w = draw(2, _CHANNELS, 32, 32, dtype=dtype, last=last), draw(_CHANNELS, 1, 3, 3, dtype=dtype)
                return x, w, Window.conv(x, w, None, stride=1, padding=1, dilation=1, groups=_CHANNELS, rank=2)

            def images(operands=operands):
                x, _, window = operands()
                return x, x.copy(order="K"), window  # y is as large as x

            kind = f"{'last' if last else 'first'} {dtype}"
            limits = _WIDENING.get((dtype, last), {})
            yield Row(f"conv forward depthwise {kind}", operands, forward, **limits)
            yield Row(f"conv input_grad depthwise {kind}", operands, input_grad, **limits)
            yield Row(f"conv weight_grad depthwise {kind}", images, conv_depthwise.weight_grad)


def forward(x, w, window):
    """y of x."""
    return conv_depthwise.forward(x, w, None, window)


def input_grad(dy, w, window):
    """dx of dy, which has the shape of x here."""
    return conv_depthwise.input_grad(dy, w, None, window)
