"""What a training loop does to all gradients at once, as torch.nn.utils."""

import numpy

from fastconv import backend
from fastconv.arrays import HALVES, accumulator, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import GraphError, ShapeError

_ROOM = 1e-6  # PyTorch's: keeps a norm of 0 from being divided by


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False):
    """Scale all gradients in place so that their norm, taken together, is at most max_norm.

    Args:
        parameters: A Tensor or an iterable of Tensors; those without a gradient do not count.
        max_norm: The largest norm.
        norm_type: Order of the norm, float("inf") for the largest element.
        error_if_nonfinite: Whether a norm that is NaN or infinite is refused; this waits for a GPU.

    Returns:
        The norm before, a Tensor of one element; of halves in float32.

    Raises:
        ShapeError: norm_type is not above 0.
        GraphError: The norm is not finite, if error_if_nonfinite.
        DeviceError: The gradients live on different devices.
    """
    if not norm_type > 0:
        raise ShapeError("clip_grad_norm_", "norm_type", norm_type, "above 0")
    grads = _gradients(parameters)
    if not grads:
        return Tensor(numpy.zeros((), numpy.float32))
    with on_device_of(grads[0]):
        return _clipped(backend.namespace(*grads), grads, max_norm, norm_type, error_if_nonfinite)


def _clipped(xp, grads, max_norm, norm_type, error_if_nonfinite):
    norms = [xp.linalg.norm(grad.astype(accumulator(grad.dtype), copy=False).ravel(), norm_type) for grad in grads]
    total = xp.linalg.norm(xp.stack([xp.asarray(norm) for norm in norms]), norm_type)
    if error_if_nonfinite and not bool(xp.isfinite(total)):
        raise GraphError("clip_grad_norm_", "parameters", f"gradients of norm {float(total)}", "a finite norm")
    scale = xp.minimum(max_norm / (total + _ROOM), 1.0)
    for grad in grads:
        _scale(grad, scale.astype(accumulator(grad.dtype)))
    return Tensor(xp.asarray(total))


def clip_grad_value_(parameters, clip_value):
    """Clip every element of every gradient, in place, to -clip_value .. clip_value.

    Args:
        parameters: A Tensor or an iterable of Tensors; those without a gradient do not count.
        clip_value: The largest absolute value.
    """
    limit = float(clip_value)
    for grad in _gradients(parameters):
        with on_device_of(grad):
            if grad.dtype.name in HALVES:  # CuPy clips no bfloat16
                grad[...] = grad.astype(accumulator(grad.dtype)).clip(-limit, limit)
            else:
                grad.clip(-limit, limit, out=grad)


def _gradients(parameters):
    """The arrays of the gradients that are there."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [raw(param.grad) for param in parameters if param.grad is not None]


def _scale(grad, scale):
    if grad.dtype.name in HALVES:
        grad[...] = grad.astype(scale.dtype) * scale
    else:
        grad *= scale
