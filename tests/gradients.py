"""First and second derivatives against finite differences, by random projections in float64.

One projection checks a whole Jacobian: for random u and v, u . J v must agree with the difference
quotient of u . f along v.
"""

import numpy as np

from fastconv.autograd import grad
from fastconv.creation import tensor

_STEP = 1e-5


def check_gradients(function, *arrays, seed=0, tolerance=1e-6, second=True):
    """Assert that the derivatives of function are right at `arrays`.

    Args:
        function: Takes Tensors, gives a Tensor.
        arrays: float64 arrays to differentiate with respect to.
        seed: Of the projections.
        tolerance: Relative difference allowed; central differences reach about 1e-9.
        second: Whether derivatives of the gradients are checked as well.
    """
    rng = np.random.default_rng(seed)
    u = rng.standard_normal(function(*[tensor(a) for a in arrays]).shape)
    directions = [rng.standard_normal(a.shape) for a in arrays]

    def value(tensors):
        return (function(*tensors) * u).sum()

    _compare(value, arrays, directions, tolerance)
    if second:
        weights = [rng.standard_normal(a.shape) for a in arrays]

        def slope(tensors):
            gradients = grad(value(tensors), tensors, create_graph=True, allow_unused=True)
            products = [(g * w).sum() for g, w in zip(gradients, weights, strict=True) if g is not None]
            return sum(products[1:], products[0])

        _compare(slope, arrays, directions, tolerance)


def _compare(value, arrays, directions, tolerance):
    tensors = [tensor(a.copy(), requires_grad=True) for a in arrays]
    result = value(tensors)
    # The slope of a linear function is a constant, which nothing was recorded for.
    gradients = grad(result, tensors, allow_unused=True) if result.requires_grad else [None] * len(tensors)
    exact = sum(float((g.numpy() * v).sum()) for g, v in zip(gradients, directions, strict=True) if g is not None)
    ahead, behind = (
        value([tensor(a + h * v, requires_grad=True) for a, v in zip(arrays, directions, strict=True)]).item()
        for h in (_STEP, -_STEP)
    )
    quotient = (ahead - behind) / (2 * _STEP)
    assert abs(exact - quotient) <= tolerance * max(1.0, abs(exact)), f"gradient {exact}, differences {quotient}"
