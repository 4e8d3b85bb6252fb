"""roi_align and roi_pool. Regions lie anywhere: what neighbouring threads read of an image need not be neighbours."""

import numpy

from bench.gates.row import Row, draw
from fastconv import cuda

_SHAPE, _OUTPUT = (2, 32, 24, 24), (7, 7)
_ANYWHERE = {False: 3.0, True: 1.15}  # sectors, by whether channels are innermost, which neighbours read of a position
_RULE = 1.0, 2, True


def rows():
    """Rows of both operators and their gradients, in both memory formats."""
    for dtype in ("float16", "float32"):
        for last in (False, True):
            kind = f"{'last' if last else 'first'} {dtype}"

            def images(dtype=dtype, last=last):
                return draw(*_SHAPE, dtype=dtype, last=last), _regions(dtype)

            def errors(dtype=dtype, last=last):
                return draw(8, _SHAPE[1], *_OUTPUT, dtype=dtype, last=last), _regions(dtype)

            def errors_and_indices(images=images, errors=errors):
                _, indices = cuda.roi_pool_forward(*images(), _OUTPUT, 1.0)
                return (*errors(), indices)

            calls = [
                ("roi_align forward", images, _align), ("roi_align input_grad", errors, _align_input_grad),
                ("roi_pool forward", images, _pool), ("roi_pool input_grad", errors_and_indices, _pool_input_grad),
            ]  # fmt: skip
            for name, make, call in calls:
                yield Row(f"{name} {kind}", make, call, bytes=None, sectors=_ANYWHERE[last])


def _regions(dtype):
    rng = numpy.random.default_rng(1)
    low = rng.uniform(0, 12, (8, 2))
    return numpy.concatenate([numpy.arange(8)[:, None] % 2, low, low + rng.uniform(4, 12, low.shape)], axis=1).astype(
        dtype
    )


def _align(x, rois):
    return cuda.roi_align_forward(x, rois, _OUTPUT, *_RULE)


def _align_input_grad(dy, rois):
    return cuda.roi_align_input_grad(dy, rois, _SHAPE[0], _SHAPE[2:], *_RULE)


def _pool(x, rois):
    return cuda.roi_pool_forward(x, rois, _OUTPUT, 1.0)


def _pool_input_grad(dy, rois, indices):
    return cuda.roi_pool_input_grad(dy, rois, indices, _SHAPE[0], _SHAPE[2:], 1.0)
