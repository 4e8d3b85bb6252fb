"""Copies between the memory formats."""

from bench.gates.row import Row, draw
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch


def rows():
    """Rows of both directions and every size of an element."""
    for dtype in ("float16", "float32", "float64"):
        for last in (False, True):

            def arguments(dtype=dtype, last=last):
                return (draw(2, 64, 16, 16, dtype=dtype, last=last),)

            yield Row(f"layout {'last to first' if last else 'first to last'} {dtype}", arguments, other_format)


def other_format(x):
    """x in the other memory format."""
    with launch("layout", x) as gpu:
        return dense(gpu, x, last=not is_channels_last(x))
