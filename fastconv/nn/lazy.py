"""Layers that learn from their first input how many channels or features it has.

At the first call they draw their parameters and turn into the layer that they are named after, for good.
"""

import re

from fastconv.arrays import describe, is_array
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.linear import Linear
from fastconv.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from fastconv.nn.parameter import Uninitialized, UninitializedBuffer, UninitializedParameter

_INSTANCE_NORMS = (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)  # which take an image without a batch


def _lazy(cls):
    """A lazy layer with the documentation of the layer that it turns into, but for the argument that it lacks."""
    _, plain = cls.__bases__
    cls.cls_to_become = plain
    text = re.sub(rf"        {cls._inferred}: [^\n]*\n", "", plain.__doc__)
    first, rest = text.replace(f"torch.nn.{plain.__name__}", f"torch.nn.{cls.__name__}").split("\n", 1)
    note = f"{cls._inferred} is that of the first input, at which the layer becomes {plain.__name__}."
    cls.__doc__ = f"{first}\n\n    {note}\n{rest}"
    return cls


class _Lazy:
    """What lazy layers share; the next class of each is the layer that it turns into.

    Attributes:
        cls_to_become: That layer.
    """

    def _forget_shapes(self):
        """Make every parameter, and every buffer that is an array of channels, one without a shape."""
        for name, param in self._parameters.items():
            if param is not None:
                self._parameters[name] = UninitializedParameter(param.data.reshape(-1)[:0].copy())
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.ndim:
                self._buffers[name] = UninitializedBuffer(buffer.data.reshape(-1)[:0].copy())

    def has_uninitialized_params(self):
        """Whether a parameter or buffer waits for the first input."""
        return any(isinstance(v, Uninitialized) for v in (*self._parameters.values(), *self._buffers.values()))

    def initialize_parameters(self, input):
        """Draw the parameters for inputs like this one; those that load_state_dict filled stay.

        Raises:
            ShapeError: input has another number of axes than the layer takes.
            DTypeError: input is no array.
        """
        if not is_array(raw(input)):
            raise DTypeError(type(self).__name__, "input", describe(input), "a Tensor or an array")
        self._infer(raw(input).shape)
        if self.has_uninitialized_params():
            for name, value in (*self._parameters.items(), *self._buffers.items()):
                if isinstance(value, Uninitialized):
                    value.materialize(self._shape_of(name))
            self.reset_parameters()

    def __call__(self, input, *args, **kwargs):
        self.initialize_parameters(input)
        self.__class__ = self.cls_to_become
        return self(input, *args, **kwargs)


class _LazyLinear(_Lazy):
    _inferred = "in_features"

    def __init__(self, out_features, bias=True, device=None, dtype=None):
        super().__init__(0, out_features, bias, device, dtype)
        self._forget_shapes()

    def _infer(self, shape):
        if not shape:
            raise ShapeError(type(self).__name__, "input", "an array without axes", "[..., in_features]")
        self.in_features = shape[-1]

    def _shape_of(self, name):
        return (self.out_features, self.in_features)[: 2 if name == "weight" else 1]


class _LazyConv(_Lazy):
    _inferred = "in_channels"

    def __init__(
        self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
        device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            0, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._forget_shapes()

    def _infer(self, shape):
        name = type(self).__name__
        if len(shape) not in (self._rank + 1, self._rank + 2):
            raise ShapeError(name, "input", list(shape), f"{self._rank + 1} or {self._rank + 2} axes")
        channels = shape[-self._rank - 1]
        if channels % self.groups:
            raise ShapeError(name, "groups", self.groups, f"a divisor of the {channels} channels of input")
        self.in_channels = channels

    def _shape_of(self, name):
        if name == "bias":
            return (self.out_channels,)
        inner, outer = self.out_channels, self.in_channels
        if self.transposed:
            inner, outer = outer, inner
        return (inner, outer // self.groups, *self.kernel_size)


class _LazyConvTranspose(_LazyConv):
    def __init__(
        self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
        padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super(_LazyConv, self).__init__(
            0, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation, padding_mode, device,
            dtype,
        )  # fmt: skip
        self._forget_shapes()


class _LazyNorm(_Lazy):
    _inferred = "num_features"

    def __init__(
        self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True
    ):
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self._forget_shapes()

    def _infer(self, shape):
        if len(shape) not in self._axes:
            axes = f"{' or '.join(map(str, self._axes))} axes"
            raise ShapeError(type(self).__name__, "input", list(shape), axes)
        alone = isinstance(self, _INSTANCE_NORMS) and len(shape) == self._axes[0]
        self.num_features = shape[0 if alone else 1]

    def _shape_of(self, name):
        return (self.num_features,)


@_lazy
class LazyLinear(_LazyLinear, Linear):
    pass


@_lazy
class LazyConv1d(_LazyConv, Conv1d):
    pass


@_lazy
class LazyConv2d(_LazyConv, Conv2d):
    pass


@_lazy
class LazyConv3d(_LazyConv, Conv3d):
    pass


@_lazy
class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    pass


@_lazy
class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    pass


@_lazy
class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    pass


@_lazy
class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    pass


@_lazy
class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    pass


@_lazy
class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    pass


@_lazy
class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    pass


@_lazy
class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    pass


@_lazy
class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    pass
