"""Root mean square normalisation and its gradient.

    y = w * x / sqrt(mean of x^2 + eps)

over the last axes. It is layer norm without what that subtracts and adds, which some networks do without.
Source: Zhang & Sennrich, arXiv:1910.07467.
"""

import math
import numbers

import numpy

from fastconv import autograd, backend
from fastconv.arrays import accumulator, check_float, describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast
from fastconv.functional.norm import normalized_sizes


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide by the root of the mean of squares over the last axes, as torch.nn.functional.rms_norm.

    Args:
        input: [..., *normalized_shape]. NumPy runs on the CPU, CuPy on the array's GPU.
        normalized_shape: Sizes of the axes to normalise over, a tuple or list of ints.
        weight: [*normalized_shape] or None, of any floating dtype: multiplied by the result.
        eps: Added to the mean of squares; None for the spacing of numbers at 1 in the dtype that is computed in, which
            is that of input, and float32 for halves.

    Returns:
        Shape, dtype and device of input; a Tensor if input or weight is one.

    Raises:
        ShapeError: Shapes disagree, or normalized_shape is empty.
        DTypeError: An argument is no floating array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Zhang & Sennrich, arXiv:1910.07467.
    """
    name = "rms_norm"
    x, w = autograd.arrays(input, weight)
    shape = normalized_sizes(name, normalized_shape)
    check_float(name, "input", x)
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(name, "input", list(x.shape), f"[..., {', '.join(map(str, shape))}], normalized_shape last")
    if w is not None:
        check_float(name, "weight", w)
        if w.shape != shape:
            raise ShapeError(name, "weight", list(w.shape), f"{list(shape)}, the normalized_shape")
    if eps is not None and not isinstance(eps, numbers.Real):
        raise DTypeError(name, "eps", describe(eps), "a number or None")
    backend.of(x, w)
    eps = float(numpy.finfo(accumulator(x.dtype)).eps if eps is None else eps)
    dtype, length = x.dtype.newbyteorder("="), math.prod(shape)
    if w is not None and w.dtype.name != x.dtype.name:
        wide = numpy.result_type(accumulator(x.dtype), accumulator(w.dtype))
        input, weight = cast(input, wide), cast(weight, wide)
    rows = input.reshape(math.prod(x.shape[: x.ndim - len(shape)]), length)
    y = _rms_norm(rows, None if weight is None else weight.reshape(length), eps)
    return cast(y.reshape(*x.shape), dtype)


def _rms_norm(x, w, eps):
    """y of x [rows, length] and w [length] or None."""
    arrays = autograd.arrays(x, w)
    y, square = backend.of(*arrays).rms_norm_forward(*arrays, eps)

    def rule(dy, _):
        if autograd.is_grad_enabled():
            return _composed_gradients(dy, x, w, eps)
        d, (plain, factors) = dy.data, arrays
        served_by = backend.of(d, *arrays)
        return (
            lambda: autograd.Tensor(served_by.rms_norm_input_grad(d, plain, square, factors, eps)),
            lambda: autograd.Tensor(served_by.rms_norm_weight_grad(d, plain, square, eps)),
        )

    return autograd.record("rms_norm", y, (x, w), rule, saves=(x, w))


def _composed_gradients(dy, x, w, eps):
    """Thunks for dx and dw, of operators that have gradients themselves."""
    dtype, wide, length = x.dtype, accumulator(x.dtype), max(x.shape[1], 1)
    dy, x = cast(dy, wide), autograd.Tensor(x) if not isinstance(x, autograd.Tensor) else x
    x = cast(x, wide)
    inverse = ((x * x).sum(1, keepdim=True) / length + eps) ** -0.5
    h = x * inverse

    def input_grad():
        weighted = dy if w is None else dy * cast(w, wide)
        return cast((weighted - h * ((weighted * h).sum(1, keepdim=True) / length)) * inverse, dtype)

    return input_grad, lambda: cast((dy * h).sum(0), dtype)
