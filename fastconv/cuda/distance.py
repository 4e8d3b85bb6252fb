"""Vectors over their length along one axis on the GPU, by the array's own module."""

from fastconv.cuda.elementwise import computed


def normalize_forward(x, axis, eps):
    """y of the shape of x; see fastconv.backend."""
    return computed(x, _normalize, (x,), (axis, eps))


def normalize_grad(dy, x, axis, eps):
    """dx of the shape of x; see fastconv.backend."""
    return computed(dy, _normalize_grad, (dy, x), (axis, eps))


def _length(xp, x, axis):
    return xp.sqrt((x * x).sum(axis=axis, keepdims=True))


def _normalize(xp, x, axis, eps):
    return x / xp.maximum(_length(xp, x, axis), eps)


def _normalize_grad(xp, dy, x, axis, eps):
    length = _length(xp, x, axis)
    y = x / xp.maximum(length, eps)
    along = (dy * y).sum(axis=axis, keepdims=True)
    return xp.where(length < eps, dy / eps, (dy - y * along) / xp.maximum(length, eps))
