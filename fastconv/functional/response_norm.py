"""Local response normalisation: each value over what its neighbours among the channels amount to.

    y[c] = x[c] / (k + alpha / size * sum of x[i]^2)^beta,   i from c - size // 2 to c + (size - 1) // 2

Channels that are not there count as 0. Source: Krizhevsky et al., ImageNet classification with deep convolutional
neural networks, NeurIPS 2012, section 3.3.
"""

import math
from numbers import Real

from fastconv import backend
from fastconv.arrays import accumulator, check_float, describe
from fastconv.autograd import Tensor, is_grad_enabled, raw, record
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, div, mul, pow, sub
from fastconv.functional.pool import avg_pool2d
from fastconv.functional.shape import clone


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
    if not x.size:
        return clone(input)  # PyTorch looks no further
    if isinstance(size, bool) or not isinstance(size, int):
        raise DTypeError(name, "size", describe(size), "an int")
    if size < 1:
        raise ShapeError(name, "size", size, "at least 1")
    for argument, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        if not isinstance(value, Real):
            raise DTypeError(name, argument, describe(value), "a number")
    numbers = size, float(alpha), float(beta), float(k)
    y = backend.of(x).response_norm_forward(x, *numbers)

    def rule(dy, _):
        if is_grad_enabled():
            return (lambda: _composed_gradient(dy, input, *numbers),)
        return (lambda: Tensor(backend.of(raw(dy), x).response_norm_input_grad(raw(dy), x, *numbers)),)

    return record(name, y, (input,), rule, (input,))


def _composed_gradient(dy, x, size, alpha, beta, k):
    """dx of functions that have gradients."""
    dtype, wide = dy.dtype, accumulator(dy.dtype)
    dy, x = cast(dy, wide), cast(x, wide)
    base = _neighbour_means(mul(x, x), size, 0) * alpha + k
    direct = mul(dy, pow(base, -beta))
    # An even size has one more neighbour before than behind, and is one for one more behind than before.
    through = _neighbour_means(div(mul(direct, x), base), size, 1 - size % 2)
    return cast(sub(direct, mul(x, through) * (2 * alpha * beta)), dtype)


def _neighbour_means(values, size, first):
    """Sums over neighbouring channels divided by size, from the pooled channel `first` on."""
    n, channels = values.shape[:2]
    planes = values.reshape(n, 1, channels, math.prod(values.shape[2:]))
    pooled = avg_pool2d(planes, (size, 1), 1, (size // 2, 0))
    return pooled[:, :, first : first + channels].reshape(*values.shape)
