"""Functions of one number on the CPU, and their gradients: a kernel for each function, direction and dtype.

A kernel is a loop around one of the formulas of elementwise_formulas.py, made by _SOURCE when it is first called for.
The loops are written out as text because the compiler's disk cache takes no closures.
"""

import functools

import numpy as np

from fastconv.arrays import accumulator
from fastconv.cpu.elementwise_formulas import formulas
from fastconv.cpu.jit import kernel
from fastconv.cpu.storage import load, memory, store
from fastconv.cpu.threads import parallel_for

_BLOCK = 1 << 14  # elements of a task
_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread

_SOURCE = {
    "forward": """
def unary_forward_{name}(first, last, x, y{parameters}):
    for i in range(first * BLOCK, min(last * BLOCK, y.size)):
        store(y, i, formula(load(x, i){numbers}))
""",
    "input_grad": """
def unary_input_grad_{name}(first, last, dy, v, dx{parameters}):
    for i in range(first * BLOCK, min(last * BLOCK, dx.size)):
        store(dx, i, formula(load(dy, i), load(v, i){numbers}))
""",
}


def unary_forward(x, function, parameters):
    """y of the shape and memory order of x; see fastconv.backend."""
    return _mapped("forward", function, parameters, x)


def unary_input_grad(dy, v, function, parameters):
    """dx of the shape and memory order of v; see fastconv.backend."""
    return _mapped("input_grad", function, parameters, dy, v)


def _mapped(direction, function, parameters, *operands):
    """The result of one kernel on operands of one shape; dtype of the first, memory order of the last."""
    last = operands[-1]
    shape, dtype = last.shape, operands[0].dtype
    order = None if last.flags.c_contiguous else memory_order(last)
    if order is not None:
        operands = [v.transpose(order) for v in operands]
    y = np.empty(operands[0].shape, dtype if dtype.isnative else dtype.newbyteorder("="))
    size = y.size
    if size:
        run = unary_kernel(direction, function, len(parameters), dtype)
        arrays = [memory(v) for v in (*operands, y)]
        parallel_for(run, -(-size // _BLOCK), size / _SPEED, *arrays, *(float(p) for p in parameters))
    return y.reshape(shape) if order is None else y.transpose(np.argsort(order))


def memory_order(x):
    """The axes of x from the slowest to the fastest in memory, or None for that of C, as where an axis is repeated."""
    if any(stride == 0 and size > 1 for stride, size in zip(x.strides, x.shape, strict=True)):
        return None
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


@functools.cache
def unary_kernel(direction, function, parameters, dtype):
    """The kernel of a function with so many parameters on memory of a dtype."""
    wide = accumulator(dtype)
    names = [f"p{i}" for i in range(parameters)]
    name = f"{function}_{dtype.name}"
    source = _SOURCE[direction].format(
        name=name,
        parameters="".join(f", {p}" for p in names),
        numbers="".join(f", number({p})" for p in names),
    )
    scope = {
        "__name__": __name__,
        "BLOCK": _BLOCK,
        "formula": formulas(wide.name)[direction == "input_grad"][function],
        "load": load,
        "number": wide.type,
        "store": store,
    }
    exec(compile(source, __file__, "exec"), scope)  # this file is what the disk cache belongs to
    return kernel(scope[f"unary_{direction}_{name}"])
