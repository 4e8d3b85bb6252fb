"""The libraries that are timed: fastconv with one of its backends, and PyTorch; on a GPU see engines_cuda.py.

Each engine lives in a process of its own and turns a Case into a Job. Both make their operands from
the same random numbers, so that results can be compared without sending inputs around.
"""

import importlib.util
import math
import os
import zlib
from typing import Any, NamedTuple

import numpy

from bench import network_jobs
from bench.agreement import dtype_of
from bench.clocks import HostClock
from bench.shapes import Problem

_PRODUCT = 1024


class Case(NamedTuple):
    """One thing to time.

    Attributes:
        problem: A Problem.
        direction: "forward", "input_grad" or "weight_grad".
        layout: "channels_first" or "channels_last": memory of x, y and dy.
        dtype: "float16", "bfloat16", "float32" or "float64".
    """

    problem: Problem
    direction: str
    layout: str
    dtype: str

    def to_json(self):
        """A dict that JSON can carry."""
        return {**self._asdict(), "problem": self.problem._asdict()}

    @classmethod
    def from_json(cls, data):
        """The Case of a dict that came as JSON, whose tuples are lists."""
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in data["problem"].items()}
        return cls(**{**data, "problem": Problem(**fields)})


class Job(NamedTuple):
    """A Case made ready by an engine.

    Attributes:
        call: Computes once and returns the engine's own array.
        magnitude: Computes the same with the absolute values of all operands, in the accumulator's
            precision: sum |x||w|, the scale of any rounding error.
        to_numpy: Turns the engine's own array into a NumPy array of float32 or float64.
    """

    call: Any
    magnitude: Any
    to_numpy: Any


def operands(case):
    """Operands of a case as float32 or float64, C-contiguous, by the names x, w and dy; the same in every process."""
    problem = case.problem
    shapes = {"x": problem.x_shape, "dy": problem.y_shape}
    if problem.w_shape is not None:
        shapes["w"] = problem.w_shape
    wanted = {"forward": ("x", "w"), "input_grad": ("dy", "w"), "weight_grad": ("x", "dy")}[case.direction]
    if problem.kind == "max_pool":
        wanted = (*wanted, "x")  # its gradient goes where the maxima are
    rng = numpy.random.default_rng(zlib.crc32(repr(tuple(problem)).encode()))
    wide = wide_dtype(case.dtype)
    return {name: rng.standard_normal(shapes[name], dtype=wide) for name in sorted(set(wanted) & set(shapes))}


def wide_dtype(dtype):
    """The dtype that results are compared in: float64 for float64, float32 otherwise."""
    return "float64" if dtype == "float64" else "float32"


class FastconvEngine:
    """fastconv on NumPy arrays.

    Args:
        backend: "cpu", "reference" or "emulated".
    """

    def __init__(self, backend):
        import fastconv

        self._name = backend
        self.version = fastconv.__version__

    clock = HostClock()

    def active(self):
        """A context manager within which jobs are prepared and called."""
        from fastconv import backend

        return backend.use_backend(self._name)

    def products(self, dtype):
        """Matrix products that show what this machine can do, by NumPy and by fastconv, and the operations of each."""
        return host_products(dtype)

    def prepare(self, case):
        """The Job of a case."""
        narrow = {k: self._array(k, v, case) for k, v in operands(case).items()}

        def magnitude():
            wide = case._replace(dtype=wide_dtype(case.dtype))
            values = {k: v.astype(wide.dtype) for k, v in narrow.items()}
            kept = {"x"} if _routes_by_x(case) else set()
            return self._call(wide, {k: v if k in kept else abs(v) for k, v in values.items()})()

        return Job(self._call(case, narrow), magnitude, lambda y: self._host(y).astype(wide_dtype(case.dtype)))

    def operator(self, case):
        """The Job of a bench.operator.Operator."""
        import fastconv
        from fastconv import functional

        x, tensors = case.operands()
        if case.direction == "forward":
            return Job(lambda: case.call((functional,), x, tensors), None, lambda y: y)
        x = fastconv.tensor(x, requires_grad=True)
        tensors.update({name: fastconv.tensor(tensors[name], requires_grad=True) for name in case.learned()})
        leaves = [x, *(tensors[name] for name in case.learned())]
        y = case.call((functional,), x, tensors)
        dy = fastconv.tensor(case.gradient(y.shape))
        return Job(lambda: fastconv.grad(y, leaves, dy, retain_graph=True)[0].data, None, lambda dx: dx)

    def network(self, name, batch, layout, learning):
        """The bench.network_jobs.NetworkJob of a network."""
        return network_jobs.of_fastconv(name, batch, layout, learning)

    def _host(self, array):
        """A NumPy array of the same values."""
        return array

    def _array(self, name, values, case):
        values = values.astype(dtype_of(case.dtype))
        if name == "w" or case.layout == "channels_first":
            return values
        return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(values, 1, -1)), -1, 1)

    def _call(self, case, arrays):
        from fastconv import backend, functional

        p, ops = case.problem, backend.of(*arrays.values())
        x, w, dy = (arrays.get(name) for name in ("x", "w", "dy"))
        window = p.window((dy if x is None else x).dtype)
        if p.kind == "max_pool":
            if case.direction == "forward":
                pool = getattr(functional, f"max_pool{p.rank}d")
                return lambda: pool(x, p.kernel, p.stride, p.padding)
            in_window = math.prod(window.kernel) <= 256  # as the public function has it
            _, indices = ops.max_pool_forward(x, window, in_window)
            return lambda: ops.max_pool_input_grad(dy, indices, window)
        if p.kind == "avg_pool":
            if case.direction == "forward":
                pool = getattr(functional, f"avg_pool{p.rank}d")
                return lambda: pool(x, p.kernel, p.stride, p.padding)
            return lambda: ops.avg_pool_input_grad(dy, window, True, None)
        if case.direction == "forward":
            convolve = getattr(functional, f"{p.kind}{p.rank}d")
            last = (0, p.groups, p.dilation) if p.kind == "conv_transpose" else (p.dilation, p.groups)
            return lambda: convolve(x, w, None, p.stride, p.padding, *last)
        if p.kind == "conv_transpose":
            if case.direction == "input_grad":
                return lambda: ops.conv_forward(dy, w, None, window)
            return lambda: ops.conv_weight_grad(dy, x, window)
        if case.direction == "input_grad":
            return lambda: ops.conv_input_grad(dy, w, None, window)
        return lambda: ops.conv_weight_grad(x, dy, window)


class TorchEngine:
    """PyTorch on the CPU."""

    clock = HostClock()

    def __init__(self):
        import torch

        self._torch = torch
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.version = torch.__version__

    def active(self):
        """A context manager within which jobs are prepared and called."""
        return self._torch.no_grad()

    def products(self, dtype):
        """As of the other engine on the CPU."""
        return host_products(dtype)

    def prepare(self, case):
        """The Job of a case."""
        torch = self._torch
        narrow = {k: self._tensor(v, case) for k, v in operands(case).items()}
        wide = getattr(torch, wide_dtype(case.dtype))

        def magnitude():
            kept = {"x"} if _routes_by_x(case) else set()
            values = {k: v.to(wide) for k, v in narrow.items()}
            return self._call(case, {k: v if k in kept else v.abs() for k, v in values.items()})()

        return Job(self._call(case, narrow), magnitude, lambda y: self._host(y.to(wide)).contiguous().numpy())

    def operator(self, case):
        """The Job of a bench.operator.Operator."""
        torch = self._torch
        x, tensors = case.operands()
        x, tensors = torch.from_numpy(x), {name: torch.from_numpy(value) for name, value in tensors.items()}
        torch.set_grad_enabled(case.direction == "backward")  # until active() ends
        if case.direction == "forward":
            return Job(lambda: case.call((torch.nn.functional, torch), x, tensors), None, lambda y: y.numpy())
        leaves = [x.requires_grad_(), *(tensors[name].requires_grad_() for name in case.learned())]
        y = case.call((torch.nn.functional, torch), x, tensors)
        dy = torch.from_numpy(case.gradient(tuple(y.shape)))
        return Job(lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)[0], None, lambda dx: dx.numpy())

    def network(self, name, batch, layout, learning):
        """The bench.network_jobs.NetworkJob of a network."""
        return network_jobs.of_torch(name, batch, layout, learning)

    def _tensor(self, values, case):
        return self._formatted(self._placed(self._torch.from_numpy(values).to(getattr(self._torch, case.dtype))), case)

    def _placed(self, tensor):
        """The tensor on the device that computes."""
        return tensor

    def _host(self, tensor):
        """The tensor on the CPU."""
        return tensor

    def _formatted(self, tensor, case):
        """The tensor in the layout of the case; weights too, as module.to(memory_format=...) does."""
        torch = self._torch
        if case.layout == "channels_first":
            return tensor
        if case.problem.rank == 1:  # PyTorch has no such format of sequences: the strides alone say it
            return tensor.transpose(1, 2).contiguous().transpose(1, 2)
        return tensor.contiguous(
            memory_format=torch.channels_last if case.problem.rank == 2 else torch.channels_last_3d
        )

    def _call(self, case, tensors):
        p = case.problem
        x, w, dy = (tensors.get(name) for name in ("x", "w", "dy"))
        if p.is_pool:
            return self._pool_call(case, x, dy)
        transposed = p.kind == "conv_transpose"
        if case.direction == "forward":
            convolve = getattr(self._torch.nn.functional, f"{p.kind}{p.rank}d")
            last = (0, p.groups, p.dilation) if transposed else (p.dilation, p.groups)
            return lambda: convolve(x, w, None, p.stride, p.padding, *last)
        # The operator wants the forward's other operand as well, of which it reads shape and format only.
        if x is None:
            x = self._formatted(dy.new_zeros(p.x_shape), case)
        if w is None:
            w = self._formatted(dy.new_zeros(p.w_shape), case)
        which = 0 if case.direction == "input_grad" else 1
        mask = [which == 0, which == 1, False]
        backward = self._torch.ops.aten.convolution_backward
        rest = (None, p.stride, p.padding, p.dilation, transposed, (0,) * p.rank, p.groups, mask)
        return lambda: backward(dy, x, w, *rest)[which]

    def _pool_call(self, case, x, dy):
        p, aten = case.problem, self._torch.ops.aten
        pool = getattr(self._torch.nn.functional, f"{p.kind}{p.rank}d")
        if case.direction == "forward":
            return lambda: pool(x, p.kernel, p.stride, p.padding)
        if p.kind == "max_pool":
            _, indices = pool(x, p.kernel, p.stride, p.padding, return_indices=True)
            backward = getattr(aten, f"max_pool{p.rank}d_with_indices_backward")
            return lambda: backward(dy, x, p.kernel, p.stride, p.padding, p.dilation, False, indices)
        x = self._formatted(dy.new_zeros(p.x_shape), case)  # of which shape and format only are read
        backward = getattr(aten, f"avg_pool{p.rank}d_backward")
        return lambda: backward(dy, x, p.kernel, p.stride, p.padding, False, True, None)


def host_products(dtype):
    """Matrix products by NumPy and by fastconv on the CPU, and the operations of each."""
    dtype = wide_dtype(dtype)
    rng = numpy.random.default_rng(0)
    a, b = (rng.standard_normal((_PRODUCT, _PRODUCT), dtype=dtype) for _ in range(2))
    c = numpy.empty_like(a)
    products = [lambda: numpy.matmul(a, b, out=c)]
    if importlib.util.find_spec("numba"):
        from fastconv import cpu

        products.append(lambda: cpu.matmul(a, b))
    return products, 2 * _PRODUCT**3


def _routes_by_x(case):
    """Whether x only says where things go, so that its signs must stay."""
    return case.problem.kind == "max_pool" and case.direction == "input_grad"
