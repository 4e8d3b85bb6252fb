"""Dense convolutions by the large tile, and those of other dtypes than float32."""

import math

import fastconv.cuda as cuda
from bench.gates.row import Row, draw
from fastconv import emulated
from fastconv.window import Window

# Channels first a warp reads 32 neighbouring pixels, or 4 times 8 for a weight gradient. A tap moves them off the
# sectors that their rows begin with, and what two steps share of a sector is read twice, the second time from L1.
_SECTORS_FIRST = {"conv_forward": 1.2, "conv_input_grad": 1.2, "conv_weight_grad": 1.6}
# Of a weight gradient of halves, channels first, a warp stores 16 depths of 2 columns, for which there are 8 groups of
# four banks: two wavefronts a store.
_CONFLICTS_HALVES = 1.1
# A thread's share of doubles is two accesses of 16 bytes beside each other: each is half of a sector a lane.
_SECTORS_DOUBLES = 2.05


def rows():
    """Rows of every direction, 1x3."""
    for dtype in ("float16", "float32", "float64"):
        for last in (False, True):
            for operator in ("conv_forward", "conv_input_grad", "conv_weight_grad"):
                yield _conv(operator, "implicit_gemm_large" if dtype == "float32" else "implicit_gemm", dtype, last)


def _conv(operator, algorithm, dtype, last):
    """One direction; filters are channels last, so that none are copied."""
    channels, filters, size = 128, 128, (8, 16)

    def operands():
        x, w = draw(1, channels, *size, dtype=dtype, last=last), draw(filters, channels, 1, 3, dtype=dtype, last=True)
        window = Window.conv(x, w, None, stride=1, padding=(0, 1), dilation=1, groups=1, rank=2)
        dy = draw(1, filters, *size, dtype=dtype, last=last)
        return {
            "conv_forward": (x, w, None, window),
            "conv_input_grad": (dy, w, None, window),
            "conv_weight_grad": (x, dy, window),
        }[operator]

    def call(*arguments):
        with cuda.use_algorithm(operator, algorithm):
            return getattr(emulated, operator)(*arguments)

    limits = {}
    if dtype == "float64":
        limits["sectors"] = _SECTORS_DOUBLES
    elif not last:
        limits["sectors"] = _SECTORS_FIRST[operator]
    if dtype == "float16" and operator == "conv_weight_grad" and not last:
        limits["conflicts"] = _CONFLICTS_HALVES
    if dtype == "float32":
        limits["multiply_adds"] = math.prod((channels, filters, 3, *size))
    name = f"{operator.replace('_', ' ', 1)} {algorithm} {'last' if last else 'first'} {dtype}"
    return Row(name, operands, call, bytes=None, **limits)
