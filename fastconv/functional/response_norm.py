"""Local response normalisation: each value over what its neighbours among the channels amount to.

    y[c] = x[c] / (k + alpha / size * sum of x[i]^2)^beta,   i from c - size // 2 to c + (size - 1) // 2

Channels that are not there count as 0. Source: Krizhevsky et al., ImageNet classification with deep convolutional
neural networks, NeurIPS 2012, section 3.3.
"""

import numbers

from fastconv.arrays import accumulator, check_float, describe, namespace_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, div, mul, pow
from fastconv.functional.pool import avg_pool3d
from fastconv.functional.shape import clone, movedim


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Divide by a power of the mean square of neighbouring channels, as torch.nn.functional.local_response_norm.

    Args:
        input: [N, C, ...], at least 3 axes. NumPy runs on the CPU, CuPy on the array's GPU.
        size: How many neighbouring channels count, input's own among them.
        alpha: What the mean of their squares is multiplied by; those that are not there count as 0.
        beta: Exponent.
        k: Added to the mean.

    Returns:
        Shape, dtype, device and memory format of input; a Tensor for a Tensor.

    Raises:
        ShapeError: input has too few axes, or size is less than 1.
        DTypeError: input is no floating array, size no int, or another argument no number.

    Source: Krizhevsky, Sutskever & Hinton, NeurIPS 2012, section 3.3.
    """
    name, x = "local_response_norm", raw(input)
    check_float(name, "input", x)
    if x.ndim < 3:
        raise ShapeError(name, "input", f"{x.ndim} axes {list(x.shape)}", "at least 3 axes: [N, C, ...]")
    if isinstance(size, bool) or not isinstance(size, int):
        raise DTypeError(name, "size", describe(size), "an int")
    if size < 1:
        raise ShapeError(name, "size", size, "at least 1")
    for argument, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        if not isinstance(value, numbers.Real):
            raise DTypeError(name, argument, describe(value), "a number")
    if not x.size:
        return clone(input)
    wide = cast(input, accumulator(x.dtype))
    last = not x.flags.c_contiguous and namespace_of(x).moveaxis(x, 1, -1).flags.c_contiguous
    wide = movedim(wide, 1, -1) if last else wide  # the result is stored as the input is
    rows = (x.shape[0], 1, x.shape[1], -1, 1) if not last else (-1, 1, x.shape[1], 1, 1)
    # An even size has one more neighbour before than behind: the last position of the pooled channels has it behind.
    means = avg_pool3d(mul(wide, wide).reshape(*rows), (size, 1, 1), 1, (size // 2, 0, 0))[:, :, : x.shape[1]]
    y = div(wide, pow(means.reshape(*wide.shape) * float(alpha) + float(k), float(beta)))
    return cast(movedim(y, -1, 1) if last else y, x.dtype.newbyteorder("="))
