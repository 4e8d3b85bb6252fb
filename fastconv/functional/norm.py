"""Batch, layer, instance and group normalisation and their gradients.

    y = w * (x - mean) / sqrt(variance + eps) + b

Batch norm takes mean and variance over every axis but the channels, group norm over groups of the channels of an
image, of which instance norm (a channel a group) and layer norm (an image is one group) are cases. The gradient goes
through the statistics of x; running ones are constants, and the map is linear in x.
Sources: Ioffe & Szegedy, arXiv:1502.03167; Ba et al., arXiv:1607.06450; Ulyanov et al., arXiv:1607.08022; Wu & He,
arXiv:1803.08494.
"""

import functools
import math
import numbers

from fastconv import autograd, backend
from fastconv.arrays import accumulator, check_float, check_same_dtype, describe, is_array, name_of, namespace_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel to mean 0 and variance 1, as torch.nn.functional.batch_norm.

    Args:
        input: [N, C, ...], or [0]. NumPy runs on the CPU, CuPy on the array's GPU.
        running_mean, running_var: [C] each, of the dtype of input or float32; Tensors or arrays. With training they
            are updated in place, the variance with its unbiased estimate, and both may be None; without, they are
            what input is normalised by.
        weight, bias: [C] each or None, of the dtype of input or float32: multiplied by and added to the result.
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
    name = "batch_norm"
    x, mean, variance, w, b = autograd.arrays(input, running_mean, running_var, weight, bias)
    if getattr(x, "ndim", 0) == 1 and x.size == 0:  # which PyTorch takes for no image of any number of channels
        channels = next((len(a) for a in (mean, variance, w, b) if getattr(a, "ndim", 0) == 1), 0)
        rest = running_mean, running_var, weight, bias, training, momentum, eps
        return batch_norm(input.reshape(0, channels), *rest).reshape(0)
    _check(name, x, w, b, momentum=momentum, eps=eps)
    if not (eps > 0 if training else eps >= 0):
        raise ShapeError(name, "eps", eps, "more than 0" if training else "at least 0")
    _check_running(name, mean, variance, x, w if b is None else b, training, "training=False")
    if training and _values_a_channel(x) == 1:
        raise ShapeError(name, "input", list(x.shape), "more than 1 value a channel when training")
    backend.of(x, mean, variance, w, b)
    momentum, eps = float(momentum), float(eps)  # a float64 scalar of NumPy would widen what it meets
    if training:
        return _batch_norm_training(input, mean, variance, weight, bias, momentum, eps)
    return _inference(name, input, mean, variance, weight, bias, eps)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise the last axes, taken together, to mean 0 and variance 1, as torch.nn.functional.layer_norm.

    Args:
        input: [..., *normalized_shape]. NumPy runs on the CPU, CuPy on the array's GPU.
        normalized_shape: Sizes of the axes to normalise over, a tuple or list of ints.
        weight, bias: [*normalized_shape] each or None, of the dtype of input or float32: multiplied by and added to the
            result.
        eps: Added to the variance.

    Returns:
        Shape, dtype and device of input; a Tensor if input, weight or bias is one.

    Raises:
        ShapeError: Shapes disagree, or normalized_shape is empty.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Ba, Kiros & Hinton, arXiv:1607.06450.
    """
    name = "layer_norm"
    x, w, b = autograd.arrays(input, weight, bias)
    shape = normalized_sizes(name, normalized_shape)
    _check(name, x, w, b, shape=shape, eps=eps)
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(name, "input", list(x.shape), f"[..., {', '.join(map(str, shape))}], normalized_shape last")
    backend.of(x, w, b)
    length = math.prod(shape)
    rows = input.reshape(math.prod(x.shape[: x.ndim - len(shape)]), length)
    weight, bias = (None if a is None else a.reshape(length) for a in (weight, bias))
    return _group_norm(name, rows, 1, weight, bias, float(eps))[0].reshape(*x.shape)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise groups of channels of each image to mean 0 and variance 1, as torch.nn.functional.group_norm.

    Args:
        input: [N, C, ...]. NumPy runs on the CPU, CuPy on the array's GPU.
        num_groups: How many groups of neighbouring channels C is split into.
        weight, bias: [C] each or None, of the dtype of input or float32: multiplied by and added to the result.
        eps: Added to the variance.

    Returns:
        Shape, dtype, device and memory format of input; a Tensor if input, weight or bias is one.

    Raises:
        ShapeError: Shapes disagree, the groups do not divide C, or input has one value only.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Wu & He, arXiv:1803.08494.
    """
    name = "group_norm"
    x, w, b = autograd.arrays(input, weight, bias)
    _check(name, x, w, b, eps=eps)
    if isinstance(num_groups, bool) or not isinstance(num_groups, int):
        raise DTypeError(name, "num_groups", describe(num_groups), "an int")
    if num_groups < 1 or x.shape[1] % num_groups:
        expected = f"a number of groups that divides the {x.shape[1]} channels of {list(x.shape)}"
        raise ShapeError(name, "num_groups", num_groups, expected)
    if x.size == num_groups:  # PyTorch does not count the images apart
        raise ShapeError(name, "input", list(x.shape), "more than 1 value a group")
    backend.of(x, w, b)
    return _group_norm(name, input, num_groups, weight, bias, float(eps))[0]


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Normalise each channel of each image to mean 0 and variance 1, as torch.nn.functional.instance_norm.

    Args:
        input: [N, C, ...]. NumPy runs on the CPU, CuPy on the array's GPU.
        running_mean, running_var: [C] each, of the dtype of input or float32; Tensors or arrays. With use_input_stats
            they are updated in place by the average over the images, the variance by its unbiased estimate, and both
            may be None; without, they are what input is normalised by.
        weight, bias: [C] each or None, of the dtype of input or float32: multiplied by and added to the result.
        use_input_stats: Whether to normalise by the mean and variance of input itself.
        momentum: Share of the new statistics in the updated running ones.
        eps: Added to the variance.

    Returns:
        Shape, dtype, device and memory format of input; a Tensor if input, weight or bias is one.

    Raises:
        ShapeError: Shapes disagree, one value a channel with use_input_stats, running statistics missing or
            read-only.
        DTypeError: Dtypes differ or are not floating point, or an argument is no array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.

    Source: Ulyanov, Vedaldi & Lempitsky, arXiv:1607.08022.
    """
    name = "instance_norm"
    x, mean, variance, w, b = autograd.arrays(input, running_mean, running_var, weight, bias)
    _check(name, x, w, b, momentum=momentum, eps=eps)
    _check_running(name, mean, variance, x, w if b is None else b, use_input_stats, "use_input_stats=False")
    count = math.prod(x.shape[2:])
    if use_input_stats and count == 1:
        raise ShapeError(name, "input", list(x.shape), "more than 1 value a channel of an image")
    backend.of(x, mean, variance, w, b)
    momentum, eps = float(momentum), float(eps)
    if not use_input_stats:
        return _inference(name, input, mean, variance, weight, bias, eps)
    y, *statistics = _group_norm(name, input, x.shape[1] or 1, weight, bias, eps)
    if mean is not None and x.size:
        factors = 1, count / (count - 1)
        for running, value, factor in zip((mean, variance), statistics, factors, strict=True):
            _update(running, value.mean(axis=0) * factor, momentum)
    return y


def _check(name, x, w, b, shape=None, momentum=0.0, eps=0.0):
    """Refusals of what all have in common, but for arrays on different devices."""
    check_float(name, "input", x)
    if shape is None and x.ndim < 2:
        raise ShapeError(name, "input", f"{x.ndim} axes {list(x.shape)}", "at least 2 axes: [N, C, ...]")
    for argument, value in (("weight", w), ("bias", b)):
        if value is not None:
            _check_dtype(name, argument, value, x)
            if shape is None:
                _check_channels(name, argument, value, x)
            elif value.shape != shape:
                raise ShapeError(name, argument, list(value.shape), f"{list(shape)}, the normalized_shape")
    if w is not None and b is not None:
        check_same_dtype(name, "bias", b, "weight", w)
    for argument, value in (("momentum", momentum), ("eps", eps)):
        if not isinstance(value, numbers.Real):
            raise DTypeError(name, argument, describe(value), "a number")


def _check_dtype(name, argument, value, x):
    """What belongs to channels has the dtype of the input, or the one that its sums are kept in."""
    if not is_array(value):
        raise DTypeError(name, argument, describe(value), "a NumPy or CuPy array")
    accepted = dict.fromkeys((name_of(x.dtype), name_of(accumulator(x.dtype))))
    if name_of(value.dtype) not in accepted:
        raise DTypeError(name, argument, value.dtype.name, f"{' or '.join(accepted)} beside input of {x.dtype.name}")


def _check_channels(name, argument, value, x):
    if value.shape != (x.shape[1],):
        raise ShapeError(name, argument, list(value.shape), f"[{x.shape[1]}], one a channel of {list(x.shape)}")


def _check_running(name, mean, variance, x, parameter, updated, needing):
    """Running statistics: both or none, [C], of the input's dtype or of the one that its sums are kept in."""
    for argument, value in (("running_mean", mean), ("running_var", variance)):
        if value is None:
            if not updated:
                raise ShapeError(name, argument, None, f"an array [C], which {needing} needs")
            continue
        _check_dtype(name, argument, value, x)
        if parameter is not None and name_of(parameter.dtype) != name_of(x.dtype):
            check_same_dtype(name, argument, value, "weight and bias", parameter)
        _check_channels(name, argument, value, x)
        if updated and not getattr(value.flags, "writeable", True):  # CuPy arrays always are
            raise ShapeError(name, argument, "a read-only array", "one that can be updated in place")
    if (mean is None) != (variance is None):
        missing = "running_mean" if mean is None else "running_var"
        raise ShapeError(name, missing, None, "an array, or None for both running statistics")
    if mean is not None:
        check_same_dtype(name, "running_var", variance, "running_mean", mean)


def normalized_sizes(name, shape):
    """normalized_shape as a tuple of ints; refuses what is none, and no axes."""
    is_sequence = isinstance(shape, (tuple, list))
    if not is_sequence or not all(isinstance(n, int) and not isinstance(n, bool) for n in shape):
        raise DTypeError(name, "normalized_shape", describe(shape), "a tuple or list of ints")
    if not shape:
        raise ShapeError(name, "normalized_shape", list(shape), "at least one axis")
    return tuple(shape)


def _batch_norm_training(x, running_mean, running_var, w, b, momentum, eps):
    """y, with a gradient that goes through the statistics of x; updates the running ones."""
    arrays = autograd.arrays(x, w, b)
    if _is_mixed(*arrays):
        y = _batch_norm_training(_widened(x), running_mean, running_var, w, b, momentum, eps)
        return cast(y, arrays[0].dtype)
    served_by = backend.of(*arrays)
    mean, variance = served_by.batch_norm_statistics(arrays[0])
    y = served_by.batch_norm_forward(arrays[0], mean, variance, *arrays[1:], eps)
    count = _values_a_channel(arrays[0])
    if running_mean is not None and count > 0:
        _update(running_mean, mean, momentum)
        _update(running_var, variance * (count / (count - 1)), momentum)

    def fused(dy):
        return backend.of(dy, *arrays).batch_norm_grad(dy, arrays[0], mean, variance, arrays[1], eps)

    def composed(dy):
        return _composed_gradients(dy, x, w, eps, None)

    return autograd.record("batch_norm", y, (x, w, b), _rule(fused, composed), saves=(x, w))


def _group_norm(name, x, groups, w, b, eps):
    """y, with a gradient that goes through the statistics of x, and these, [N, groups]."""
    arrays = autograd.arrays(x, w, b)
    if _is_mixed(*arrays):
        y, *statistics = _group_norm(name, _widened(x), groups, w, b, eps)
        return cast(y, arrays[0].dtype), *statistics
    y, mean, variance = backend.of(*arrays).group_norm_forward(arrays[0], groups, *arrays[1:], eps)

    def fused(dy):
        wanted = arrays[1] is not None or arrays[2] is not None
        return backend.of(dy, *arrays).group_norm_grad(dy, arrays[0], mean, variance, groups, arrays[1], eps, wanted)

    def composed(dy):
        return _composed_gradients(dy, x, w, eps, groups)

    return autograd.record(name, y, (x, w, b), _rule(fused, composed), saves=(x, w)), mean, variance


def _rule(fused, composed):
    """A gradient rule: composed gives thunks of operators with gradients; fused, which has none, all at once."""

    def rule(dy, _):
        if autograd.is_grad_enabled():
            return composed(dy)

        @functools.cache
        def gradients():
            return fused(dy.data)

        return tuple(functools.partial(lambda i: autograd.Tensor(gradients()[i]), i) for i in range(3))

    return rule


def _composed_gradients(dy, x, w, eps, groups):
    """Thunks for dx, dw and db, of operators that have gradients themselves; groups is None for batch norm."""
    dtype, wide = x.dtype, accumulator(x.dtype)  # one dtype for all that stands between input and result
    dy, x = _as_dtype(dy, wide), _as_dtype(x, wide)
    axes, shape = _all_but_channels(x), x.shape

    def mean(value):
        if groups is None:
            # Sums of nothing are 0, and so are their means.
            return _spread(value.sum(axis=axes), x) / max(_values_a_channel(x), 1)
        values = value.reshape(shape[0], groups, math.prod(shape[1:]) // groups)
        means = values.sum(axis=2).reshape(shape[0], groups, 1) / max(values.shape[2], 1)
        members = shape[1] // groups
        spread = means.broadcast_to((shape[0], groups, members)).reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))
        return spread

    centred = x - mean(x)
    scale = (mean(centred * centred) + eps) ** -0.5
    h = centred * scale

    def input_grad():
        # In batch norm w is a factor of all that is averaged.
        weighted = dy if w is None else dy * _spread(_as_dtype(w, wide), x)
        return _as_dtype(scale * (weighted - mean(weighted) - h * mean(weighted * h)), dtype)

    def weight_grad():
        return _as_dtype((dy * h).sum(axis=axes), dtype)

    return input_grad, weight_grad, lambda: _as_dtype(dy.sum(axis=axes), dtype)


def _inference(name, x, mean, variance, w, b, eps):
    """y by running statistics, which are constants: its gradient is the same map without mean and bias."""
    if _is_mixed(*autograd.arrays(x, w, b)):
        return cast(_inference(name, _widened(x), mean, variance, w, b, eps), x.dtype)
    # Copies: a later training pass changes the running statistics, the gradient of this one does not.
    mean, variance = (a.astype(accumulator(x.dtype)) for a in (mean, variance))
    arrays = autograd.arrays(x, w, b)
    y = backend.of(*arrays).batch_norm_forward(arrays[0], mean, variance, *arrays[1:], eps)

    def rule(dy, _):
        zeros = namespace_of(mean).zeros_like(mean)

        @functools.cache
        def sums():
            return backend.of(dy.data, *arrays).batch_norm_weight_grad(dy.data, arrays[0], mean, variance, eps)

        def weight_grad():
            if not autograd.is_grad_enabled():
                return autograd.Tensor(sums()[0])
            wide = mean.dtype
            h = _inference(name, _as_dtype(x, wide), mean, variance, None, None, eps)
            return _as_dtype((_as_dtype(dy, wide) * h).sum(axis=_all_but_channels(x)), x.dtype)

        def bias_grad():
            # Both come of one pass; without a weight there is a shorter one.
            if w is None or autograd.is_grad_enabled():
                return dy.sum(axis=_all_but_channels(x))
            return autograd.Tensor(sums()[1])

        return lambda: _inference(name, dy, zeros, variance, w, None, eps), weight_grad, bias_grad

    return autograd.record(name, y, (x, w, b), rule, saves=(x, w))


def _is_mixed(x, w, b):
    """Whether weight and bias are wider than x: then all is computed as they are, and rounded in the end."""
    return any(a is not None and name_of(a.dtype) != name_of(x.dtype) for a in (w, b))


def _widened(x):
    return cast(x, accumulator(x.dtype))


def _as_dtype(value, dtype):
    """The value as a Tensor of another dtype, native in byte order; its gradient gets the dtype of the value."""
    dtype = dtype.newbyteorder("=")
    value = value if isinstance(value, autograd.Tensor) else autograd.Tensor(value)
    if value.dtype == dtype:
        return value

    def rule(dy, _):
        return (lambda: _as_dtype(dy, value.dtype),)

    return autograd.record("norm", value.data.astype(dtype), (value,), rule)


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
