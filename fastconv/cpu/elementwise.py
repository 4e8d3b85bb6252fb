"""Functions of one and of two numbers on the CPU, and their gradients: a kernel for each function, direction and dtype.

A kernel is a loop around one of the formulas of elementwise_formulas.py or elementwise_pairs.py, made when it is first
called for. The loops are written out as text because the compiler's disk cache takes no closures.
"""

import functools

import numpy as np

from fastconv import blocks
from fastconv.arrays import accumulator
from fastconv.cpu.elementwise_formulas import formulas
from fastconv.cpu.elementwise_pairs import pair_formulas
from fastconv.cpu.jit import kernel
from fastconv.cpu.storage import load, memory, store
from fastconv.cpu.threads import parallel_for

_BLOCK = 1 << 14  # elements of a task
_SPEED = 1  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread

_MAP = """
def {name}(first, last, {arguments}):
    for i in range(first * BLOCK, min(last * BLOCK, y.size)):
        store(y, i, formula({values}))
"""
_SUM = """
def {name}(first, last, {arguments}):
    for block in range(first, last):
        total = number(0)
        for i in range(block * BLOCK, min((block + 1) * BLOCK, a.size)):
            total += formula({values})
        y[block] = total
"""

_FORMULAS = {
    "unary_forward": lambda dtype: formulas(dtype)[0],
    "unary_input_grad": lambda dtype: formulas(dtype)[1],
    "binary_forward": lambda dtype: pair_formulas(dtype)[0],
    "binary_sum": lambda dtype: pair_formulas(dtype)[0],
    "binary_a_grad": lambda dtype: pair_formulas(dtype)[1],
    "binary_b_grad": lambda dtype: pair_formulas(dtype)[2],
}


def unary_forward(x, function, parameters):
    """y of the shape and memory order of x; see fastconv.backend."""
    return _mapped("unary_forward", function, parameters, x, (x,))


def unary_input_grad(dy, v, function, parameters):
    """dx of the shape and memory order of v; see fastconv.backend."""
    return _mapped("unary_input_grad", function, parameters, v, (dy, v))


def binary_forward(a, b, function, parameters):
    """y of the shape and memory order of the operand that has axes, of a if both have; see fastconv.backend."""
    return _mapped("binary_forward", function, parameters, a if a.ndim else b, (a, b))


def binary_sum(a, b, function, parameters):
    """The sum of binary_forward; see fastconv.backend.

    A task sums a block, and the sums of the blocks are summed in float64 in their order.
    """
    wide = accumulator(a.dtype)
    sums = np.zeros(-(-a.size // _BLOCK), wide)
    order = _order(a)
    if sums.size:
        run = elementwise_kernel("binary_sum", function, "xx", len(parameters), a.dtype)
        arrays = [memory(v if order is None else v.transpose(order)) for v in (a, b)]
        parallel_for(run, sums.size, a.size / _SPEED, *arrays, sums, *(float(p) for p in parameters))
    with np.errstate(all="ignore"):
        return np.asarray(sums.sum(dtype=np.float64), wide)


def binary_grad(dy, a, b, function, parameters, operand):
    """The gradient of a or of b, of its shape and the memory order of a; see fastconv.backend."""
    return _mapped(f"binary_{operand}_grad", function, parameters, a, (dy, a, b))


def _mapped(kind, function, parameters, like, operands):
    """The result of one kernel: dtype, shape and memory order of `like`; an operand of fewer axes is a number."""
    shape, dtype, order = like.shape, like.dtype, _order(like)
    forms = "".join("x" if v.ndim == like.ndim else "n" for v in operands)
    if order is not None:
        operands = [v.transpose(order) if v.ndim else v for v in operands]
        shape = tuple(shape[axis] for axis in order)
    y = blocks.empty(shape, dtype if dtype.isnative else dtype.newbyteorder("="))
    size = y.size
    if size:
        run = elementwise_kernel(kind, function, forms, len(parameters), dtype)
        values = [memory(v) if form == "x" else float(v) for v, form in zip(operands, forms, strict=True)]
        parallel_for(run, -(-size // _BLOCK), size / _SPEED, *values, memory(y), *(float(p) for p in parameters))
    return y if order is None else y.transpose(np.argsort(order))


def _order(x):
    """The memory order of an array, or None for that of C."""
    return None if x.flags.c_contiguous else memory_order(x)


def memory_order(x):
    """The axes of x from the slowest to the fastest in memory, or None for that of C, as where an axis is repeated."""
    if any(stride == 0 and size > 1 for stride, size in zip(x.strides, x.shape, strict=True)):
        return None
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


@functools.cache
def elementwise_kernel(kind, function, forms, parameters, dtype):
    """The kernel of a function with so many parameters on memory of a dtype.

    Args:
        kind: Of _FORMULAS.
        function: Name in fastconv.elementwise.
        forms: A letter for each operand: x for an array, n for a number.
        parameters: How many there are.
        dtype: Of the arrays.
    """
    wide = accumulator(dtype)
    operands = list("abc"[: len(forms)])
    numbers = [f"p{i}" for i in range(parameters)]
    name = f"{kind}_{function}_{forms}_{dtype.name}"
    values = [f"load({v}, i)" if form == "x" else f"number({v})" for v, form in zip(operands, forms, strict=True)]
    source = (_SUM if kind == "binary_sum" else _MAP).format(
        name=name,
        arguments=", ".join([*operands, "y", *numbers]),
        values=", ".join([*values, *(f"number({p})" for p in numbers)]),
    )
    scope = {
        "__name__": __name__,
        "BLOCK": _BLOCK,
        "formula": _FORMULAS[kind](wide.name)[function],
        "load": load,
        "number": wide.type,
        "store": store,
    }
    exec(compile(source, __file__, "exec"), scope)  # this file is what the disk cache belongs to
    return kernel(scope[name])
