"""Softmax along one axis, glu and prelu on the GPU, by the array's own module."""

from fastconv.cuda.elementwise import computed
from fastconv.elementwise import FUNCTIONS


def softmax_forward(x, axis, log):
    """y of the shape of x; see fastconv.backend."""
    return computed(x, _forward, (x,), (axis, log))


def softmax_input_grad(dy, y, axis, log):
    """dx of the shape of y; see fastconv.backend."""
    return computed(dy, _input_grad, (dy, y), (axis, log))


def _forward(xp, x, axis, log):
    # CuPy takes no initial value, and an axis without an element has no maximum.
    shifted = x - x.max(axis=axis, keepdims=True) if x.size else x
    e = xp.exp(shifted)
    total = e.sum(axis=axis, keepdims=True)
    return shifted - xp.log(total) if log else e / total


def _input_grad(xp, dy, y, axis, log):
    if log:
        return dy - xp.exp(y) * dy.sum(axis=axis, keepdims=True)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def glu_forward(x, axis):
    """y of half the size of x on the axis; see fastconv.backend."""
    return computed(x, _glu, (x,), (axis,))


def glu_input_grad(dy, x, axis):
    """dx of the shape of x; see fastconv.backend."""
    return computed(dy, _glu_grad, (dy, x), (axis,))


def prelu_forward(x, w):
    """y of the shape of x; see fastconv.backend."""
    return computed(x, _prelu, (x, _slopes(w, x)), ())


def prelu_grad(dy, x, w):
    """dx of the shape of x, dw of the shape of w; see fastconv.backend."""
    dx = computed(dy, _prelu_input_grad, (dy, x, _slopes(w, x)), ())
    axes = tuple(range(x.ndim)) if w.size == 1 else tuple(i for i in range(x.ndim) if i != 1)
    return dx, computed(dy, _prelu_weight_grad, (dy, x), (axes,)).reshape(w.shape)


def _glu(xp, x, axis):
    a, b = xp.split(x, 2, axis=axis)
    return a * FUNCTIONS["sigmoid"].forward(xp, b)


def _glu_grad(xp, dy, x, axis):
    a, b = xp.split(x, 2, axis=axis)
    s = FUNCTIONS["sigmoid"].forward(xp, b)
    return xp.concatenate([dy * s, dy * a * (s * (1 - s))], axis=axis)


def _prelu(xp, x, w):
    return xp.where(x > 0, x, x * w)


def _prelu_input_grad(xp, dy, x, w):
    return xp.where(x > 0, dy, dy * w)


def _prelu_weight_grad(xp, dy, x, axes):
    return xp.where(x > 0, 0, dy * x).sum(axis=axes)


def _slopes(w, x):
    """w as it broadcasts against x."""
    return w.reshape(()) if w.size == 1 else w.reshape(-1, *(1,) * (x.ndim - 2))
