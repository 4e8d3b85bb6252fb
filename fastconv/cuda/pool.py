"""Pooling on the GPU: which kernel serves a call, and how it is cut into blocks.

tile     a block keeps a box of operands in shared memory: windows overlap, and so read global memory once
split    several threads share a cell: large windows, whole planes
direct   input gradients from global memory, whatever the sizes
"""

import functools
import math

import numpy

from fastconv.cuda import pool_geometry, pool_tile
from fastconv.cuda.choice import Problem, anything, choose, register
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace

_INDEX_BYTES = 8  # of a position in a partial result
_NARROW_BYTES = 4  # of a position in the box of a gradient
_MOST_NARROW = 2**31 - 1


def max_pool_forward(x, window, in_window=False):
    """y [N, C, *output] and indices; see fastconv.backend."""
    axes = pool_geometry.windows(window) if in_window else pool_geometry.windowed(window)
    return _forward("max_pool_forward", x, window.output, axes, indices="uint8" if in_window else "int64")


def adaptive_max_pool_forward(x, output_size):
    """y [N, C, *output_size] and indices; see fastconv.backend."""
    output = tuple(output_size)
    return _forward("adaptive_max_pool_forward", x, output, pool_geometry.adaptive(x.shape[2:], output))


def avg_pool_forward(x, window, count_include_pad, divisor_override):
    """y [N, C, *output]; see fastconv.backend."""
    averaging = pool_geometry.averaging(window, bool(count_include_pad), divisor_override)
    return _forward("avg_pool_forward", x, window.output, pool_geometry.windowed(window), averaging)


def adaptive_avg_pool_forward(x, output_size):
    """y [N, C, *output_size]; see fastconv.backend."""
    output = tuple(output_size)
    axes = pool_geometry.adaptive(x.shape[2:], output)
    return _forward("adaptive_avg_pool_forward", x, output, axes, (False, 0.0))


def max_pool_input_grad(dy, indices, window):
    """dx [N, C, *size]; see fastconv.backend. An index that is no position of its window sends nothing."""
    axes = pool_geometry.windows(window) if indices.dtype == numpy.uint8 else pool_geometry.windowed(window)
    return _input_grad("max_pool_input_grad", dy, indices, window.size, axes)


def adaptive_max_pool_input_grad(dy, indices, size):
    """dx [N, C, *size]; see fastconv.backend. An index that is no position of its cell sends nothing."""
    axes = pool_geometry.adaptive(tuple(size), dy.shape[2:])
    return _input_grad("adaptive_max_pool_input_grad", dy, indices, tuple(size), axes)


def avg_pool_input_grad(dy, window, count_include_pad, divisor_override):
    """dx [N, C, *size]; see fastconv.backend."""
    averaging = pool_geometry.averaging(window, bool(count_include_pad), divisor_override)
    return _input_grad("avg_pool_input_grad", dy, None, window.size, pool_geometry.windowed(window), averaging)


def adaptive_avg_pool_input_grad(dy, size):
    """dx [N, C, *size]; see fastconv.backend."""
    axes = pool_geometry.adaptive(tuple(size), dy.shape[2:])
    return _input_grad("adaptive_avg_pool_input_grad", dy, None, tuple(size), axes, (False, 0.0))


def pool_gather(x, indices):
    """y [N, C, *output]; see fastconv.backend. What an index out of range names reads as 0: a kernel cannot refuse."""
    last = is_channels_last(x)
    with launch("pool_gather", x, indices) as gpu:
        xs, places = dense(gpu, x, last), _places(gpu, indices, last)
        y = gpu.empty(indices.shape, x.dtype, last)
        if y.size:
            shape = _indexed(gpu, x.shape, indices.shape, last)
            gpu.extension.pool_gather(gpu.dtype(xs), gpu.read(xs), gpu.read(places), gpu.write(y), shape, gpu.stream)
    return y


def pool_scatter(dy, indices, size):
    """dx [N, C, *size]; see fastconv.backend. What an index out of range is sent is lost: a kernel cannot refuse."""
    return _sent("pool_scatter", dy, indices, size)


def pool_place(x, indices, size):
    """y [N, C, *size]; see fastconv.backend. What an index out of range is sent is lost: a kernel cannot refuse."""
    return _sent("pool_place", x, indices, size)


def _sent(operator, values, indices, size):
    """[N, C, *size] by the kernel of that name, values sent where the indices say."""
    last = is_channels_last(values)
    with launch(operator, values, indices) as gpu:
        sent, places = dense(gpu, values, last), _places(gpu, indices, last)
        result = gpu.empty((*values.shape[:2], *size), values.dtype, last)
        if result.size:
            shape = _indexed(gpu, result.shape, values.shape, last)
            run = getattr(gpu.extension, operator)
            run(gpu.dtype(sent), gpu.read(sent), gpu.read(places), gpu.write(result), shape, gpu.stream)
    return result


def _forward(operator, x, output, axes, averaging=None, indices="int64"):
    """y of any cells, with indices of that dtype if averaging is None, a maximum."""
    last = is_channels_last(x)
    with launch(operator, x) as gpu:
        xs = dense(gpu, x, last)
        y = gpu.empty((*x.shape[:2], *output), x.dtype, last)
        indices = gpu.empty(y.shape, numpy.dtype(indices), last) if averaging is None else None
        if y.size:
            problem = Problem(axes, xs.dtype.name, last, gpu.architecture, x.shape)
            run = {"tile": _run_tile, "split": _run_split}[choose(operator, problem)]
            run(gpu, xs, y, indices, problem, averaging)
    return y if averaging else (y, indices)


def _run_tile(gpu, x, y, indices, problem, averaging):
    tile = _forward_tile(problem)
    common = (_pooling(gpu, problem), gpu.extension.PoolTile(*tile))
    if averaging is None:
        arrays = gpu.read(x), gpu.write(y), *_either(indices, gpu.write)
        gpu.extension.max_pool_forward_tile(gpu.dtype(x), *arrays, *common, gpu.stream)
    else:
        arrays = gpu.read(x), gpu.write(y)
        gpu.extension.avg_pool_forward_tile(
            gpu.dtype(x), *arrays, *common, gpu.extension.Averaging(*averaging), gpu.stream
        )


def _run_split(gpu, x, y, indices, problem, averaging):
    accumulator = numpy.dtype("float64" if problem.dtype == "float64" else "float32")
    itemsize = accumulator.itemsize + (_INDEX_BYTES if averaging is None else 0)
    split = pool_tile.split(problem.geometry, *_planes_and_lanes(problem), itemsize, get_max_workspace())
    partial = positions = None
    if split.parts > 1:
        partial = gpu.workspace((split.parts, y.size), accumulator)
        positions = gpu.workspace((split.parts, y.size), "int64") if averaging is None else None
    common = (_pooling(gpu, problem), gpu.extension.PoolSplit(*split))
    if averaging is None:
        arrays = gpu.read(x), gpu.write(y), *_either(indices, gpu.write), gpu.write(partial), gpu.write(positions)
        gpu.extension.max_pool_forward_split(gpu.dtype(x), *arrays, *common, gpu.stream)
    else:
        arrays = gpu.read(x), gpu.write(y), gpu.write(partial)
        averaging = gpu.extension.Averaging(*averaging)
        gpu.extension.avg_pool_forward_split(gpu.dtype(x), *arrays, *common, averaging, gpu.stream)


def _input_grad(operator, dy, indices, size, axes, averaging=None):
    """dx of any cells, through indices if averaging is None, of a maximum."""
    last = is_channels_last(dy)
    with launch(operator, dy, indices) as gpu:
        errors = dense(gpu, dy, last)
        places = None if indices is None else _places(gpu, indices, last)
        dx = gpu.empty((*dy.shape[:2], *size), dy.dtype, last)
        if dx.size:
            problem = Problem(axes, errors.dtype.name, last, gpu.architecture, dy.shape)
            more = ()
            algorithm = choose(operator, problem)
            if algorithm == "tile":
                more = (gpu.extension.PoolTile(*_input_grad_tile(problem, averaging is None)),)
            kind = "max" if averaging is None else "avg"
            run = getattr(gpu.extension, f"{kind}_pool_input_grad_{algorithm}")
            read = (gpu.read(errors),) if averaging else (gpu.read(errors), *_either(places, gpu.read))
            if averaging:
                more = (*more, gpu.extension.Averaging(*averaging))
            run(gpu.dtype(errors), *read, gpu.write(dx), _pooling(gpu, problem), *more, gpu.stream)
    return dx


def _forward_tile(problem):
    itemsize = _BYTES[problem.dtype]
    return pool_tile.forward_tile(problem.geometry, *_planes_and_lanes(problem), itemsize)


def _forward_tile_pays(problem):
    tile = _forward_tile(problem)
    return tile is not None and pool_tile.pays(tile, problem.geometry)


def _input_grad_tile(problem, is_max):
    itemsize = _BYTES[problem.dtype]
    box_bytes = max(itemsize, _BYTES["float32"]) + (_NARROW_BYTES if is_max else 0)
    return pool_tile.input_grad_tile(problem.geometry, *_planes_and_lanes(problem), itemsize, box_bytes)


def _max_tile_fits(problem):
    narrow = pool_geometry.positions(problem.geometry) <= _MOST_NARROW
    return narrow and _input_grad_tile(problem, is_max=True) is not None


_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

for _kind in ("max_pool", "adaptive_max_pool", "avg_pool", "adaptive_avg_pool"):
    register(f"{_kind}_forward", ("tile", _forward_tile_pays, _forward_tile), ("split", anything))
for _kind in ("max_pool", "adaptive_max_pool"):
    register(f"{_kind}_input_grad", ("tile", _max_tile_fits), ("direct", anything))
for _kind in ("avg_pool", "adaptive_avg_pool"):
    register(
        f"{_kind}_input_grad",
        ("tile", lambda problem: _input_grad_tile(problem, is_max=False) is not None),
        ("direct", anything),
    )


@functools.lru_cache(maxsize=4096)
def _compiled(extension, axes, planes, lanes):
    return extension.Pooling(planes, lanes, axes)


def _pooling(gpu, problem):
    """The geometry of a problem as the extension's own."""
    return _compiled(gpu.extension, problem.geometry, *_planes_and_lanes(problem))


def _planes_and_lanes(problem):
    """How [N, C, *size] is stored: [planes, *size, lanes]."""
    n, c = problem.shape[:2]
    return (n, c) if problem.last else (n * c, 1)


def _indexed(gpu, plane_shape, index_shape, last):
    n, c = plane_shape[:2]
    planes, lanes = (n, c) if last else (n * c, 1)
    return gpu.extension.PoolIndexed(planes, math.prod(plane_shape[2:]), math.prod(index_shape[2:]), lanes)


def _places(gpu, indices, last):
    """Indices as the kernels need them."""
    if indices.dtype != numpy.uint8:
        return dense(gpu, indices.astype(numpy.int64, copy=False), last)
    if not last:
        return gpu.namespace.ascontiguousarray(indices)
    return gpu.namespace.moveaxis(gpu.namespace.ascontiguousarray(gpu.namespace.moveaxis(indices, 1, -1)), -1, 1)


def _either(indices, address):
    """Addresses of positions in planes and of positions in windows, of which a kernel gets one."""
    return (0, address(indices)) if indices.dtype == numpy.uint8 else (address(indices), 0)
