"""Layers for inference alone, which fastconv.fuse makes of others: a norm folded in, an activation computed with it.

The layers that have nothing left to do stay where they were. What comes out of a fused layer cannot be read until it
has been through them, so that a network in which it goes another way fails instead of computing something else.
Parameters are frozen: NumPy arrays of their own that cannot be written, so that a backend may keep what it has made of
them, such as filters in the order in which it reads them.
"""

from fastconv.arrays import describe, is_cupy
from fastconv.autograd import Tensor, is_grad_enabled, raw, wants_grad
from fastconv.errors import GraphError, ShapeError
from fastconv.functional.conv import conv_activated
from fastconv.nn.activation import GELU, ReLU, SiLU
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module
from fastconv.nn.parameter import Parameter


def frozen(array):
    """A copy of an array that owns its memory; on the host it cannot be written."""
    array = array.copy(order="C")
    if not is_cupy(array):
        array.flags.writeable = False
    return array


class Awaited(Tensor):
    """The result of a fused layer on its way through the layers that were folded into it.

    Args:
        tensor: The result, whose place in the graph it takes.
        waits: The marks of the layers that it has to pass, in this order.
    """

    __slots__ = ("_array", "_waits")

    def __init__(self, tensor, waits):
        self._array, self._waits = tensor.data, waits
        self.grad, self._node, self._requires_grad = None, tensor._node, tensor._requires_grad

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    dtype = property(lambda self: self._array.dtype)

    @property
    def data(self):
        raise GraphError(
            "fuse", "result", "a fused layer's result on another way than through what was folded into it",
            "the way that was seen, or that of a Sequential", "pass fuse an example that goes this way",
        )  # fmt: skip

    def passed(self, mark):
        """What is left of this after the layer of a mark: a Tensor, or None where it does not wait for that layer."""
        if self._waits[0] is not mark:
            return None
        tensor = Tensor(self._array)
        tensor._node, tensor._requires_grad = self._node, self._requires_grad
        return Awaited(tensor, self._waits[1:]) if len(self._waits) > 1 else tensor


class _Fused:
    """What fused layers share; the next class of each is the layer that it was.

    Attributes:
        norm: Name of the class of the norm that was folded into the weight, or None.
        activation: "relu", "gelu", "silu" or None.
    """

    norm = None
    activation = None
    _norm_mark = None
    _activation_mark = None

    def fix(self, weight=None, bias=None):
        """Freeze the parameters, after they have been replaced by those that are given."""
        given = {"weight": weight, "bias": bias}
        for name, param in self._parameters.items():
            array = raw(param) if given[name] is None else given[name]
            self._parameters[name] = None if array is None else Parameter(frozen(array), requires_grad=False)

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.fix()  # arrays of a copy or from a file can be written

    def extra_repr(self):
        known = {"norm": self.norm, "activation": self.activation}
        return ", ".join([super().extra_repr(), *(f"{k}={v}" for k, v in known.items() if v is not None)])

    def _check(self, input, ndim):
        """Refuse an input without a batch, in which a norm would have taken another axis for the channels."""
        if self.norm is not None and getattr(input, "ndim", ndim) != ndim:
            got, expected = f"{input.ndim} axes {list(input.shape)}", f"{ndim} axes, as {self.norm} was folded in"
            raise ShapeError(type(self).__name__, "input", got, expected)

    def _awaited(self, y, activated=False):
        waits = (self._norm_mark, self._activation_mark if activated else None)
        waits = tuple(mark for mark in waits if mark is not None)
        return Awaited(y, waits) if waits else y


class _FusedConv(_Fused):
    def forward(self, input):
        self._check(input, self._rank + 2)
        learning = is_grad_enabled() and any(wants_grad(v) for v in (input, *self._parameters.values()))
        if self.activation is None or learning:  # then its own layer computes it, and its gradient
            return self._awaited(super().forward(input))
        input, padding = self._padded(input)
        geometry = self.stride, padding, self.dilation, self.groups, self._rank
        return self._awaited(conv_activated(input, self.weight, self.bias, *geometry, self.activation), True)


class FusedConv1d(_FusedConv, Conv1d):
    """Conv1d, frozen, with a norm folded in and an activation behind it; made by fastconv.fuse."""


class FusedConv2d(_FusedConv, Conv2d):
    """Conv2d, frozen, with a norm folded in and an activation behind it; made by fastconv.fuse."""


class FusedConv3d(_FusedConv, Conv3d):
    """Conv3d, frozen, with a norm folded in and an activation behind it; made by fastconv.fuse."""


class _FusedConvTranspose(_Fused):
    def forward(self, input, output_size=None):
        self._check(input, self._rank + 2)
        return self._awaited(super().forward(input, output_size))


class FusedConvTranspose1d(_FusedConvTranspose, ConvTranspose1d):
    """ConvTranspose1d, frozen, with a norm folded in; made by fastconv.fuse."""


class FusedConvTranspose2d(_FusedConvTranspose, ConvTranspose2d):
    """ConvTranspose2d, frozen, with a norm folded in; made by fastconv.fuse."""


class FusedConvTranspose3d(_FusedConvTranspose, ConvTranspose3d):
    """ConvTranspose3d, frozen, with a norm folded in; made by fastconv.fuse."""


class FusedLinear(_Fused, Linear):
    """Linear, frozen, with a norm folded in; made by fastconv.fuse."""

    def forward(self, input):
        self._check(input, 2)
        return self._awaited(super().forward(input))


class FoldedNorm(Module):
    """What is left of a norm: it hands on the result of the layer that it was folded into."""

    def forward(self, input):
        y = input.passed(self._mark) if isinstance(input, Awaited) else None
        if y is None:
            raise GraphError(
                "fuse", "input", f"{describe(input)} for a norm", "what comes from the layer that it was folded into",
                "pass fuse an example that goes this way",
            )  # fmt: skip
        return y


class _Absorbed:
    """An activation that hands on what it was computed with already, and computes the rest."""

    def forward(self, input):
        y = input.passed(self._mark) if isinstance(input, Awaited) else None
        return super().forward(input) if y is None else y


class AbsorbedReLU(_Absorbed, ReLU):
    """ReLU of whatever does not come from a layer that computes it itself; made by fastconv.fuse."""


class AbsorbedGELU(_Absorbed, GELU):
    """GELU of whatever does not come from a layer that computes it itself; made by fastconv.fuse."""


class AbsorbedSiLU(_Absorbed, SiLU):
    """SiLU of whatever does not come from a layer that computes it itself; made by fastconv.fuse."""
