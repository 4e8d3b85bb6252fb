"""Batch, layer, instance, group and RMS normalisation layers."""

import warnings

import numpy

from fastconv import functional
from fastconv.arrays import on_device_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn import init
from fastconv.nn.module import Module
from fastconv.nn.parameter import new_parameter
from fastconv.transfer import place
from fastconv.window import per_axis

_DOC = """Normalise each channel of {what} to mean 0 and variance 1, as torch.nn.BatchNorm{rank}d.

    In training the mean and variance are those of the batch, and the running ones move towards them
    (the variance by its unbiased estimate); in evaluation the running ones are used.

    Args:
        num_features: C, channels of the input.
        eps: Added to the variance.
        momentum: Share of the batch in the updated running statistics; None averages all batches alike.
        affine: Whether a weight and a bias a channel are learned.
        track_running_stats: Whether running statistics are kept; without, evaluation uses the batch's too.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of parameters and running statistics; None is float32.
        bias: Whether there is a bias beside the weight.

    Shape:
        {shape} in, the same out. weight, bias, running_mean and running_var are [C],
        num_batches_tracked is an int64 without axes.

    Raises:
        ShapeError: num_features is negative.
        DTypeError: num_features is no int, or dtype is not floating.

    Source: Ioffe & Szegedy, arXiv:1502.03167.
    """


_INSTANCE_DOC = """Normalise each channel of each {what} to mean 0 and variance 1, as torch.nn.InstanceNorm{rank}d.

    Args:
        num_features: C, channels of the input.
        eps: Added to the variance.
        momentum: Share of the batch in the updated running statistics; None for 0.
        affine: Whether a weight and a bias a channel are learned.
        track_running_stats: Whether running statistics are kept, which evaluation then uses.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of parameters and running statistics; None is float32.
        bias: Whether there is a bias beside the weight.

    Shape:
        {shape} in, the same out. weight, bias, running_mean and running_var are [C],
        num_batches_tracked is an int64 without axes.

    Raises:
        ShapeError: num_features is negative.
        DTypeError: num_features is no int, or dtype is not floating.

    Source: Ulyanov, Vedaldi & Lempitsky, arXiv:1607.08022.
    """


class _Tracking(Module):
    """What batch and instance norm share: parameters, and running statistics."""

    _optional_keys = ("num_batches_tracked",)

    def __init__(self, num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=True):
        super().__init__()
        (self.num_features,) = per_axis(type(self).__name__, "num_features", num_features, 1, least=0)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, new_parameter(shape, device, dtype) if wanted else None)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, new_parameter(shape, device, dtype).data if track_running_stats else None)
        counter = place(numpy.zeros((), numpy.int64), device)
        self.register_buffer("num_batches_tracked", counter if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget the batches seen so far."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self):
        """Forget the batches seen so far and what was learned: weight 1, bias 0."""
        self.reset_running_stats()
        _reset(self)

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _check_axes(self, input):
        if getattr(input, "ndim", self._axes[0]) not in self._axes:  # what is no array is refused by the function
            raise ShapeError(
                type(self).__name__, "input", f"{input.ndim} axes {list(input.shape)}",
                f"{' or '.join(map(str, self._axes))} axes",
            )  # fmt: skip


class _BatchNorm(_Tracking):
    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None,
        *, bias=True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check_axes(input)
        counting = self.training and self.track_running_stats and self.num_batches_tracked is not None
        share = self.momentum
        if share is None:
            share = 1 / (self.num_batches_tracked.item() + 1) if counting else 0.0
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        running = not self.training or self.track_running_stats
        mean, variance = (self.running_mean, self.running_var) if running else (None, None)
        y = functional.batch_norm(input, mean, variance, self.weight, self.bias, by_batch, share, self.eps)
        if counting:
            counter = self.num_batches_tracked.data
            with on_device_of(counter):
                counter += 1
        return y


class BatchNorm1d(_BatchNorm):
    __doc__ = _DOC.format(rank=1, what="features or sequences", shape="[N, C] or [N, C, L]")
    _axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _DOC.format(rank=2, what="images", shape="[N, C, H, W]")
    _axes = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _DOC.format(rank=3, what="volumes", shape="[N, C, D, H, W]")
    _axes = (5,)


class _InstanceNorm(_Tracking):
    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None,
        *, bias=True,
    ):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check_axes(input)
        alone = getattr(input, "ndim", None) == self._axes[0]
        at = 0 if alone else 1
        if hasattr(input, "shape") and input.shape[at] != self.num_features and not self.affine:
            message = f"{type(self).__name__}: input has {input.shape[at]} channels, expected {self.num_features}"
            warnings.warn(f"{message}; without affine the number is not used", stacklevel=2)
        y = functional.instance_norm(
            input[None] if alone else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return y[0] if alone else y


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _INSTANCE_DOC.format(rank=1, what="sequence", shape="[N, C, L] or [C, L]")
    _axes = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _INSTANCE_DOC.format(rank=2, what="image", shape="[N, C, H, W] or [C, H, W]")
    _axes = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _INSTANCE_DOC.format(rank=3, what="volume", shape="[N, C, D, H, W] or [C, D, H, W]")
    _axes = (4, 5)


class LayerNorm(Module):
    """Normalise the last axes, taken together, to mean 0 and variance 1, as torch.nn.LayerNorm.

    Args:
        normalized_shape: Sizes of the axes to normalise over, an int or a tuple.
        eps: Added to the variance.
        elementwise_affine: Whether a weight and a bias an element are learned.
        bias: Whether there is a bias beside the weight.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        [..., *normalized_shape] in, the same out. weight and bias are [*normalized_shape].

    Raises:
        ShapeError: A size is negative.
        DTypeError: normalized_shape holds something that is no int, or dtype is not floating.

    Source: Ba, Kiros & Hinton, arXiv:1607.06450.
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, wanted in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(name, new_parameter(self.normalized_shape, device, dtype) if wanted else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Forget what was learned: weight 1, bias 0."""
        _reset(self)

    def forward(self, input):
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(Module):
    """Divide by the root of the mean of squares over the last axes, taken together, as torch.nn.RMSNorm.

    Args:
        normalized_shape: Sizes of the axes to normalise over, an int or a tuple.
        eps: Added to the mean of squares; None for the spacing of numbers at 1 in the dtype that is computed in.
        elementwise_affine: Whether a weight an element is learned.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the weight; None is float32.

    Shape:
        [..., *normalized_shape] in, the same out. weight is [*normalized_shape].

    Raises:
        ShapeError: A size is negative.
        DTypeError: normalized_shape holds something that is no int, or dtype is not floating.

    Source: Zhang & Sennrich, arXiv:1910.07467.
    """

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = _sizes("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = new_parameter(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self):
        """Forget what was learned: weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input):
        return functional.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalise groups of channels of each image to mean 0 and variance 1, as torch.nn.GroupNorm.

    Args:
        num_groups: How many groups of neighbouring channels there are.
        num_channels: C, channels of the input.
        eps: Added to the variance.
        affine: Whether a weight and a bias a channel are learned.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.
        bias: Whether there is a bias beside the weight.

    Shape:
        [N, C, ...] in, the same out. weight and bias are [C].

    Raises:
        ShapeError: The groups do not divide the channels, or a number is out of range.
        DTypeError: A number is no int, or dtype is not floating.

    Source: Wu & He, arXiv:1803.08494.
    """

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        self.num_groups = _whole("GroupNorm", "num_groups", num_groups, least=1)
        self.num_channels = _whole("GroupNorm", "num_channels", num_channels, least=0)
        if self.num_channels % self.num_groups:
            raise ShapeError("GroupNorm", "num_channels", num_channels, f"a multiple of num_groups {num_groups}")
        self.eps = eps
        self.affine = affine
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, new_parameter((self.num_channels,), device, dtype) if wanted else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Forget what was learned: weight 1, bias 0."""
        _reset(self)

    def forward(self, input):
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        affine = f"affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, {affine}"


def _sizes(layer, shape):
    """normalized_shape, an int or several, as a tuple."""
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(_whole(layer, "normalized_shape", n, least=0) for n in sizes)


def _whole(layer, argument, value, least):
    """An int of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DTypeError(layer, argument, repr(value), "an int")
    if value < least:
        raise ShapeError(layer, argument, value, f"at least {least}")
    return value


def _reset(layer):
    """Weight 1 and bias 0, where they are."""
    if layer.weight is not None:
        init.ones_(layer.weight)
    if layer.bias is not None:
        init.zeros_(layer.bias)
