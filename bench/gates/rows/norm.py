"""Normalisation: batch norm by sums, group norm by sums and by rows, in both memory formats."""

from bench.gates.row import Row, draw
from fastconv import cuda

_EPS = 1e-5
_BATCH, _GROUPED, _ROWS = (8, 64, 16, 32), (2, 64, 32, 64), (128, 2048)
_GROUPS = 4
# All that goes into a sum is read before the sum is needed: where it is more than the registers of a block hold, it is
# read again.
_TWO_PASSES = 1.7
# Of layer norm, the gradients of the weight read anew what those of the input have read; their partial sums and the
# statistics of a row are much only beside so few rows.
_TWO_KERNELS, _FEW_ROWS = 1.85, 1.15
# A block leaves sums in float32 of 8192 elements of each of two arrays, which in halves are a quarter of what it reads.
_PARTIAL_SUMS = 1.3


def rows():
    """Rows of statistics, forward pass and gradient."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            kind = f"{'last' if last else 'first'} {dtype}"
            yield from _batch_rows(kind, dtype, last)
            yield from _group_rows(kind, dtype, last)
        yield from _layer_rows(dtype)
        yield from _rms_rows(dtype)


def _batch_rows(kind, dtype, last):
    def image():
        return (draw(*_BATCH, dtype=dtype, last=last),)

    def normalised():
        x, w = draw(*_BATCH, dtype=dtype, last=last), draw(_BATCH[1], dtype=dtype)
        residual = draw(*_BATCH, dtype=dtype, last=last)
        return x, *cuda.batch_norm_statistics(x), w, w, _EPS, residual, True

    def errors():
        dy, y = (draw(*_BATCH, dtype=dtype, last=last) for _ in range(2))
        x, mean, variance, w, _, eps, *_ = normalised()
        return dy, x, mean, variance, w, eps, y

    yield Row(f"batch_norm statistics {kind}", image, cuda.batch_norm_statistics)
    yield Row(f"batch_norm forward {kind}", normalised, cuda.batch_norm_forward)
    yield Row(f"batch_norm grad {kind}", errors, cuda.batch_norm_grad, bytes=_TWO_PASSES)


def _group_rows(kind, dtype, last):
    def image():
        w = draw(_GROUPED[1], dtype=dtype)
        return draw(*_GROUPED, dtype=dtype, last=last), _GROUPS, w, w, _EPS

    def errors():
        dy, (x, groups, w, _, eps) = image()[0], image()
        return dy, x, *cuda.group_norm_forward(x, groups, w, w, eps)[1:], groups, w, eps

    yield Row(f"group_norm forward {kind}", image, cuda.group_norm_forward, bytes=_TWO_PASSES)
    yield Row(f"group_norm grad {kind}", errors, cuda.group_norm_grad, bytes=_TWO_PASSES)


def _layer_rows(dtype):
    def image():
        w = draw(_ROWS[1], dtype=dtype)
        return draw(*_ROWS, dtype=dtype), 1, w, w, _EPS

    def errors():
        dy, (x, groups, w, _, eps) = image()[0], image()
        return dy, x, *cuda.group_norm_forward(x, groups, w, w, eps)[1:], groups, w, eps

    yield Row(f"layer_norm forward {dtype}", image, cuda.group_norm_forward)
    yield Row(f"layer_norm grad {dtype}", errors, cuda.group_norm_grad, bytes=_TWO_KERNELS, sectors=_FEW_ROWS)


def _rms_rows(dtype):
    def rows():
        return draw(*_ROWS, dtype=dtype), draw(_ROWS[1], dtype=dtype), _EPS

    def errors():
        x, w, eps = rows()
        return draw(*_ROWS, dtype=dtype), x, cuda.rms_norm_forward(x, w, eps)[1], w, eps

    def sums():
        dy, x, square, _, eps = errors()
        return dy, x, square, eps

    yield Row(f"rms_norm forward {dtype}", rows, cuda.rms_norm_forward)
    yield Row(f"rms_norm input_grad {dtype}", errors, cuda.rms_norm_input_grad)
    yield Row(f"rms_norm weight_grad {dtype}", sums, cuda.rms_norm_weight_grad, bytes=_PARTIAL_SUMS, sectors=_FEW_ROWS)
