"""Matrix products."""

from bench.gates.row import Row, draw
from fastconv import cuda

_SIZE = 128


def rows():
    """A row of whole tiles."""

    def operands():
        return draw(_SIZE, _SIZE), draw(_SIZE, _SIZE)

    yield Row("matmul float32", operands, cuda.matmul, bytes=None, multiply_adds=_SIZE**3)
