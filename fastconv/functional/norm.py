"""Batch normalisation and its gradient.

    y = w * (x - mean) / sqrt(variance + eps) + b,  mean and variance over every axis but the channels

In training they are the statistics of x itself and the gradient goes through them; otherwise they
are the running ones, constants, and the map is linear in x.
Source: Ioffe & Szegedy, arXiv:1502.03167, section 3.
"""

import functools
import math
import numbers

from fastconv import autograd, backend
from fastconv.arrays import accumulator, check_float, check_same_dtype, describe, is_array, namespace_of
from fastconv.errors import DTypeError, ShapeError

_NAME = "batch_norm"


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel to mean 0 and variance 1, as torch.nn.functional.batch_norm.

    Args:
        input: [N, C, ...]. NumPy runs on the CPU, CuPy on the array's GPU.
        running_mean, running_var: [C] each, of the dtype of input or float32; Tensors or arrays. With training they
            are updated in place, the variance with its unbiased estimate, and both may be None; without, they are
            what input is normalised by.
        weight, bias: [C] each or None, dtype of input: multiplied by and added to the result.
        training: Whether to normalise by the mean and variance of input itself.
        momentum: Share of the new statistics in the updated running ones.
        eps: Added to the variance; more than 0, or with training=False at least 0.

    Returns:
        Shape, dtype, device and memory format of input; a Tensor if input, weight or bias is one.

    Raises:
        ShapeError: Shapes disagree, training with one value a channel, running statistics missing or
            read-only, or eps out of range.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Ioffe & Szegedy, arXiv:1502.03167.
    """
    x, mean, variance, w, b = autograd.arrays(input, running_mean, running_var, weight, bias)
    _check(x, mean, variance, w, b, training, momentum, eps)
    backend.of(x, mean, variance, w, b)
    momentum, eps = float(momentum), float(eps)  # a float64 scalar of NumPy would widen what it meets
    if training:
        return _batch_norm_training(input, mean, variance, weight, bias, momentum, eps)
    # Copies: a later training pass changes the running statistics, the gradient of this one does not.
    mean, variance = (a.astype(accumulator(x.dtype)) for a in (mean, variance))
    return _batch_norm_inference(input, mean, variance, weight, bias, eps)


def _check(x, mean, variance, w, b, training, momentum, eps):
    """Every refusal of batch_norm, but for arrays on different devices."""
    check_float(_NAME, "input", x)
    if x.ndim < 2:
        raise ShapeError(_NAME, "input", f"{x.ndim} axes {list(x.shape)}", "at least 2 axes: [N, C, ...]")
    for argument, value in (("weight", w), ("bias", b)):
        if value is not None:
            check_same_dtype(_NAME, argument, value, "input", x)
            _check_channels(argument, value, x)
    for argument, value in (("running_mean", mean), ("running_var", variance)):
        if value is not None:
            _check_running(argument, value, x, training)
        elif not training:
            raise ShapeError(_NAME, argument, None, "an array [C], which training=False needs")
    if (mean is None) != (variance is None):
        missing = "running_mean" if mean is None else "running_var"
        raise ShapeError(_NAME, missing, None, "an array, or None for both running statistics")
    for argument, value in (("momentum", momentum), ("eps", eps)):
        if not isinstance(value, numbers.Real):
            raise DTypeError(_NAME, argument, describe(value), "a number")
    if not (eps > 0 if training else eps >= 0):
        raise ShapeError(_NAME, "eps", eps, "more than 0 when training" if training else "at least 0")
    if training and _values_a_channel(x) == 1:
        raise ShapeError(_NAME, "input", list(x.shape), "more than 1 value a channel when training")


def _check_channels(argument, value, x):
    if value.shape != (x.shape[1],):
        raise ShapeError(_NAME, argument, list(value.shape), f"[{x.shape[1]}], one a channel of {list(x.shape)}")


def _check_running(argument, value, x, training):
    """A running statistic: [C], of the input's dtype or of the one that its sums are kept in."""
    if not is_array(value):
        raise DTypeError(_NAME, argument, describe(value), "a NumPy or CuPy array")
    accepted = dict.fromkeys((x.dtype.name, accumulator(x.dtype).name))
    if value.dtype.name not in accepted:
        raise DTypeError(_NAME, argument, value.dtype.name, " or ".join(accepted))
    _check_channels(argument, value, x)
    if training and not getattr(value.flags, "writeable", True):  # CuPy arrays always are
        raise ShapeError(_NAME, argument, "a read-only array", "one that training can update in place")


def _batch_norm_training(x, running_mean, running_var, w, b, momentum, eps):
    """y, with a gradient that goes through the statistics of x; updates the running ones."""
    arrays = autograd.arrays(x, w, b)
    served_by = backend.of(*arrays)
    mean, variance = served_by.batch_norm_statistics(arrays[0])
    y = served_by.batch_norm_forward(arrays[0], mean, variance, *arrays[1:], eps)
    count = _values_a_channel(arrays[0])
    if running_mean is not None and count > 0:
        _update(running_mean, mean, momentum)
        _update(running_var, variance * (count / (count - 1)), momentum)

    def rule(dy, _):
        if autograd.is_grad_enabled():
            return _composed_gradients(dy, x, w, eps)

        @functools.cache
        def fused():
            return backend.of(dy.data, *arrays).batch_norm_grad(dy.data, arrays[0], mean, variance, arrays[1], eps)

        return tuple(functools.partial(lambda i: autograd.Tensor(fused()[i]), i) for i in range(3))

    return autograd.record(_NAME, y, (x, w, b), rule, saves=(x, w))


def _composed_gradients(dy, x, w, eps):
    """Thunks for dx, dw and db, of operators that have gradients themselves."""
    dtype, wide = x.dtype, accumulator(x.dtype)  # one dtype for all that stands between input and result
    axes, count = _all_but_channels(x), max(_values_a_channel(x), 1)  # sums of nothing are 0, and so are their means
    dy, x = _as_dtype(dy, wide), _as_dtype(x, wide)

    def mean(value):
        return _spread(value.sum(axis=axes), x) / count

    centred = x - mean(x)
    scale = (mean(centred * centred) + eps) ** -0.5
    h = centred * scale

    def input_grad():
        dx = scale * (dy - mean(dy) - h * mean(dy * h))
        return _as_dtype(dx if w is None else dx * _spread(_as_dtype(w, wide), x), dtype)

    def weight_grad():
        return _as_dtype((dy * h).sum(axis=axes), dtype)

    return input_grad, weight_grad, lambda: _as_dtype(dy.sum(axis=axes), dtype)


def _batch_norm_inference(x, mean, variance, w, b, eps):
    """y by statistics that are constants: its gradient is the same map without mean and bias."""
    arrays = autograd.arrays(x, w, b)
    y = backend.of(*arrays).batch_norm_forward(arrays[0], mean, variance, *arrays[1:], eps)

    def rule(dy, _):
        zeros = namespace_of(mean).zeros_like(mean)

        def weight_grad():
            if not autograd.is_grad_enabled():
                fused = backend.of(dy.data, *arrays).batch_norm_grad
                return autograd.Tensor(fused(dy.data, arrays[0], mean, variance, arrays[1], eps)[1])
            wide = mean.dtype
            h = _batch_norm_inference(_as_dtype(x, wide), mean, variance, None, None, eps)
            return _as_dtype((_as_dtype(dy, wide) * h).sum(axis=_all_but_channels(x)), x.dtype)

        return (
            lambda: _batch_norm_inference(dy, zeros, variance, w, None, eps),
            weight_grad,
            lambda: dy.sum(axis=_all_but_channels(x)),
        )

    return autograd.record(_NAME, y, (x, w, b), rule, saves=(x, w))


def _as_dtype(value, dtype):
    """The value as a Tensor of another dtype, native in byte order; its gradient gets the dtype of the value."""
    dtype = dtype.newbyteorder("=")
    value = value if isinstance(value, autograd.Tensor) else autograd.Tensor(value)
    if value.dtype == dtype:
        return value

    def rule(dy, _):
        return (lambda: _as_dtype(dy, value.dtype),)

    return autograd.record(_NAME, value.data.astype(dtype), (value,), rule)


def _update(running, value, momentum):
    """Move a running statistic towards value, in place; in the dtype of value, which may be wider."""
    running[...] = (1 - momentum) * running.astype(value.dtype) + momentum * value


def _values_a_channel(x):
    return x.shape[0] * math.prod(x.shape[2:])


def _all_but_channels(x):
    return (0, *range(2, x.ndim))


def _spread(channels, x):
    """[C] as [C, 1, ...], to broadcast against x."""
    return channels.reshape(channels.shape[0], *(1,) * (x.ndim - 2))
