"""Pooling."""

from bench.gates.row import SECTORS, Row, draw
from fastconv import cuda
from fastconv.window import Window

_SHAPE = (2, 32, 32, 32)
# Windows of stride 2 take every second word of shared memory, and their gradients give to them.
_STRIDED, _STRIDED_GRADIENT = 1.5, 1.05
# A byte a maximum: the channels of a tile of float32 end in the middle of a sector of them.
_BYTES_OF_CHANNELS = 1.25


def rows():
    """Rows of 3x3 windows with stride 2 and of 2x2 windows, in both memory formats."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            kind = f"{'last' if last else 'first'} {dtype}"
            for kernel, padding in ((3, 1), (2, 0)):

                def arguments(dtype=dtype, last=last, kernel=kernel, padding=padding):
                    x = draw(*_SHAPE, dtype=dtype, last=last)
                    return x, Window.pool("max_pool2d", x, kernel, 2, padding, 1, False, 2)

                def errors(arguments=arguments):
                    x, window = arguments()
                    return cuda.max_pool_forward(x, window)[0], window

                def errors_and_indices(arguments=arguments, in_window=False):
                    x, window = arguments()
                    return (*cuda.max_pool_forward(x, window, in_window), window)

                def in_window(arguments=arguments):
                    return *arguments(), True

                def errors_and_taps(errors_and_indices=errors_and_indices):
                    return errors_and_indices(in_window=True)

                def row(name, make, call, conflicts, sectors=SECTORS, kind=f"{kernel}x{kernel} {kind}"):
                    return Row(f"{name} {kind}", make, call, conflicts=conflicts, sectors=sectors)

                yield row("max_pool forward", arguments, cuda.max_pool_forward, _STRIDED)
                yield row("max_pool input_grad", errors_and_indices, cuda.max_pool_input_grad, _STRIDED_GRADIENT)
                if dtype == "float32":
                    back, sectors = cuda.max_pool_input_grad, _BYTES_OF_CHANNELS if last else SECTORS
                    yield row("max_pool forward, in window,", in_window, cuda.max_pool_forward, _STRIDED, sectors)
                    yield row("max_pool input_grad, in window,", errors_and_taps, back, _STRIDED_GRADIENT, sectors)
                yield row("avg_pool forward", arguments, average, _STRIDED)
                yield row("avg_pool input_grad", errors, average_input_grad, _STRIDED_GRADIENT)


def average(x, window):
    """y of x, with padding counted."""
    return cuda.avg_pool_forward(x, window, True, None)


def average_input_grad(dy, window):
    """dx of dy, with padding counted."""
    return cuda.avg_pool_input_grad(dy, window, True, None)
