"""Values that parameters start from, as torch.nn.init: every function fills a tensor in place and returns it.

Random values are drawn on the host in float64 and rounded to the tensor's dtype, so that a seed gives
the same values on every device. They are not PyTorch's values of the same seed.
"""

import math
import statistics

import numpy

from fastconv import random
from fastconv.arrays import describe, is_array, namespace_of, on_device_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError

_GAINS = {
    "linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75,
    **{f"conv{rank}d": 1.0 for rank in (1, 2, 3)}, **{f"conv_transpose{rank}d": 1.0 for rank in (1, 2, 3)},
}  # fmt: skip


def calculate_gain(nonlinearity, param=None):
    """What a layer's weights are scaled by so that a nonlinearity after it keeps the variance.

    Args:
        nonlinearity: "linear", "conv1d" and so on, "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: The negative slope of leaky_relu; None is 0.01.

    Returns:
        The factor.

    Raises:
        ShapeError: nonlinearity is none of these.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ShapeError("calculate_gain", "nonlinearity", repr(nonlinearity), " or ".join([*_GAINS, "leaky_relu"]))
    return _GAINS[nonlinearity]


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Fill with values drawn evenly from a up to b.

    Args:
        tensor: Tensor or array, filled in place.
        a, b: The bounds.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.
    """
    return _fill("uniform_", tensor, lambda shape: a + (b - a) * _stream(generator).random(shape))


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Fill with normally distributed values.

    Args:
        tensor: Tensor or array, filled in place.
        mean: The mean.
        std: The standard deviation.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.
    """
    return _fill("normal_", tensor, lambda shape: mean + std * _stream(generator).standard_normal(shape))


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Fill with normally distributed values, those outside a to b left out.

    Args:
        tensor: Tensor or array, filled in place.
        mean: The mean before anything is left out.
        std: The standard deviation before anything is left out.
        a, b: The bounds, values and not deviations.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: a is not below b.
    """
    if not a < b:
        raise ShapeError("trunc_normal_", "a", a, f"less than b, {b}")
    normal = statistics.NormalDist()
    low, high = normal.cdf((a - mean) / std), normal.cdf((b - mean) / std)

    def drawn(shape):
        # Probabilities of exactly 0 and 1 have no quantile.
        p = numpy.clip(low + (high - low) * _stream(generator).random(shape), 1e-300, 1 - 2**-53)
        quantiles = numpy.array([normal.inv_cdf(q) for q in p.ravel().tolist()]).reshape(shape)
        return numpy.clip(mean + std * quantiles, a, b)

    return _fill("trunc_normal_", tensor, drawn)


def constant_(tensor, val):
    """Fill with one value.

    Args:
        tensor: Tensor or array, filled in place.
        val: The value.

    Returns:
        tensor.
    """
    return _fill("constant_", tensor, lambda shape: numpy.float64(val))


def zeros_(tensor):
    """Fill with 0.

    Args:
        tensor: Tensor or array, filled in place.

    Returns:
        tensor.
    """
    return constant_(tensor, 0)


def ones_(tensor):
    """Fill with 1.

    Args:
        tensor: Tensor or array, filled in place.

    Returns:
        tensor.
    """
    return constant_(tensor, 1)


def eye_(tensor):
    """Fill with the identity.

    Args:
        tensor: Tensor or array with two axes, filled in place.

    Returns:
        tensor.

    Raises:
        ShapeError: There are not two axes.
    """
    if raw(tensor).ndim != 2:
        raise ShapeError("eye_", "tensor", list(tensor.shape), "two axes")
    return _fill("eye_", tensor, lambda shape: numpy.eye(*shape))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Fill evenly within gain * sqrt(6 / (fan_in + fan_out)).

    Args:
        tensor: Tensor or array [out, in, *kernel], filled in place.
        gain: What calculate_gain gives for the nonlinearity that follows.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: There are less than two axes.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010.
    """
    bound = gain * math.sqrt(6 / sum(fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Fill normally with standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Args:
        tensor: Tensor or array [out, in, *kernel], filled in place.
        gain: What calculate_gain gives for the nonlinearity that follows.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: There are less than two axes.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill evenly within calculate_gain(nonlinearity, a) * sqrt(3 / fan).

    Args:
        tensor: Tensor or array [out, in, *kernel], filled in place.
        a: The negative slope of leaky_relu.
        mode: "fan_in" keeps the variance in the forward pass, "fan_out" in the backward pass.
        nonlinearity: As in calculate_gain.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: There are less than two axes, or mode or nonlinearity is unknown.

    Source: He et al., arXiv:1502.01852.
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill normally with standard deviation calculate_gain(nonlinearity, a) / sqrt(fan).

    Args:
        tensor: Tensor or array [out, in, *kernel], filled in place.
        a: The negative slope of leaky_relu.
        mode: "fan_in" keeps the variance in the forward pass, "fan_out" in the backward pass.
        nonlinearity: As in calculate_gain.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: There are less than two axes, or mode or nonlinearity is unknown.

    Source: He et al., arXiv:1502.01852.
    """
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor, gain=1.0, generator=None):
    """Fill with a matrix [out, all other axes] whose rows, or columns if they are fewer, are orthonormal.

    Args:
        tensor: Tensor or array with at least two axes, filled in place.
        gain: What the matrix is multiplied by.
        generator: fastconv.Generator to draw from; None is the one that fastconv.manual_seed seeds.

    Returns:
        tensor.

    Raises:
        ShapeError: There are less than two axes.

    Source: Saxe et al., arXiv:1312.6120.
    """
    fan_in_and_fan_out(tensor)

    def drawn(shape):
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = numpy.linalg.qr(_stream(generator).standard_normal((max(rows, columns), min(rows, columns))))
        q = q * numpy.sign(numpy.diagonal(r))  # without which Q is not evenly distributed
        return gain * (q.T if rows < columns else q).reshape(shape)

    return _fill("orthogonal_", tensor, drawn)


def fan_in_and_fan_out(tensor):
    """How many values each output is a sum of, and how many outputs each input enters.

    Args:
        tensor: Tensor or array [out, in, *kernel].

    Returns:
        A pair of ints.

    Raises:
        ShapeError: There are less than two axes.
    """
    shape = raw(tensor).shape
    if len(shape) < 2:
        raise ShapeError("init", "tensor", list(shape), "at least two axes")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _kaiming_std(name, tensor, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ShapeError(name, "mode", repr(mode), '"fan_in" or "fan_out"')
    fan = fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _stream(generator):
    """NumPy's generator behind ours."""
    if generator is None:
        generator = random.default_generator
    if not isinstance(generator, random.Generator):
        raise DTypeError("init", "generator", describe(generator), "a fastconv.Generator or None")
    return generator.numpy


def _fill(name, tensor, values):
    """Write values(shape), a host array, into the tensor."""
    array = raw(tensor)
    if not is_array(array):
        raise DTypeError(name, "tensor", describe(array), "a Tensor or array")
    if array.size > 0:
        with on_device_of(array):
            array[...] = namespace_of(array).asarray(values(array.shape))
    return tensor
