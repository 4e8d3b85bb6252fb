"""Matrix products on the GPU, by the tiles of the convolutions; a transposed operand is read where it lies."""

import math

from fastconv.cuda.choice import Problem, anything, choose, register
from fastconv.cuda.layout import dense
from fastconv.cuda.runtime import launch


def matmul(a, b):
    """[..., M, L] @ [..., L, K], leading axes equal; see fastconv.backend."""
    with launch("matmul", a, b) as gpu:
        *lead, rows, depth = a.shape
        columns = b.shape[-1]
        c = gpu.empty((*lead, rows, columns), a.dtype)
        if c.size:
            problem = Problem(None, a.dtype.name, False, gpu.architecture, (math.prod(lead), rows, depth, columns))
            algorithm = choose("matmul", problem)
            left, a_transposed = _stored(gpu, a)
            right, b_transposed = _stored(gpu, b)
            gpu.extension.matmul_tiled(
                gpu.dtype(left),
                algorithm == "tiled_large",
                gpu.read(left),
                a_transposed,
                gpu.read(right),
                b_transposed,
                gpu.write(c),
                math.prod(lead),
                rows,
                depth,
                columns,
                gpu.stream,
            )
        return c


def _stored(gpu, x):
    """(matrices, transposed): dense in C order, or so once their last two axes are exchanged."""
    turned = x.swapaxes(-1, -2)
    transposed = turned.flags.c_contiguous and not x.flags.c_contiguous
    return dense(gpu, turned if transposed else x), transposed


def _fits_large(problem):
    """Whether large tiles fill a GPU; see fastconv.cuda.conv."""
    batch, rows, _, columns = problem.shape
    blocks = batch * -(-rows // 128) * -(-columns // 128)
    return _has_large(problem) and min(rows, columns) > 64 and blocks >= 132


def _has_large(problem):
    return problem.dtype != "float64"


register("matmul", ("tiled_large", _fits_large, _has_large), ("tiled", anything))
