"""Layers that pad signals, images and volumes."""

from fastconv import functional
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.nn.module import Module

_DOC = """Pad {what} with {added}, as torch.nn.{name}.

    Args:
        padding: How many positions to add on each side: an int, or ({sides}). Negative ones cut off.{value}

    Shape:
        [N, C, {size}] or [C, {size}] in, as many axes out, each spatial one longer by what was added before and after.
    """

_WORDS = {
    1: dict(what="signals", size="L", sides="left, right"),
    2: dict(what="images", size="H, W", sides="left, right, top, bottom"),
    3: dict(what="volumes", size="D, H, W", sides="left, right, top, bottom, front, back"),
}
_ADDED = {
    "Constant": "a number",
    "Zero": "zeros",
    "Reflection": "their mirror images, whose edge is not repeated",
    "Replication": "their edges",
    "Circular": "their other ends",
}


def _documented(cls):
    kind, value = cls.__name__.partition("Pad")[0], ""
    if kind == "Constant":
        value = "\n        value: The number."
    cls.__doc__ = _DOC.format(name=cls.__name__, added=_ADDED[kind], value=value, **_WORDS[cls._rank])
    return cls


class _Pad(Module):
    def __init__(self, padding):
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self._rank)

    def forward(self, input):
        return functional.pad(input, self.padding, self._mode)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return functional.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class _ReflectionPad(_Pad):
    _mode = "reflect"


class _ReplicationPad(_Pad):
    _mode = "replicate"


class _CircularPad(_Pad):
    _mode = "circular"

    def forward(self, input):
        shape = getattr(raw(input), "shape", None)
        if shape is not None and len(shape) not in (self._rank + 1, self._rank + 2):
            axes = f"{self._rank + 1} or {self._rank + 2} axes"
            raise ShapeError(type(self).__name__, "input", list(shape), axes)
        return super().forward(input)


@_documented
class ConstantPad1d(_ConstantPad):
    _rank = 1


@_documented
class ConstantPad2d(_ConstantPad):
    _rank = 2


@_documented
class ConstantPad3d(_ConstantPad):
    _rank = 3


class _Zero:
    """What the layers that pad with zeros change of those that pad with a number."""

    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


@_documented
class ZeroPad1d(_Zero, ConstantPad1d):
    pass


@_documented
class ZeroPad2d(_Zero, ConstantPad2d):
    pass


@_documented
class ZeroPad3d(_Zero, ConstantPad3d):
    pass


@_documented
class ReflectionPad1d(_ReflectionPad):
    _rank = 1


@_documented
class ReflectionPad2d(_ReflectionPad):
    _rank = 2


@_documented
class ReflectionPad3d(_ReflectionPad):
    _rank = 3


@_documented
class ReplicationPad1d(_ReplicationPad):
    _rank = 1


@_documented
class ReplicationPad2d(_ReplicationPad):
    _rank = 2


@_documented
class ReplicationPad3d(_ReplicationPad):
    _rank = 3


@_documented
class CircularPad1d(_CircularPad):
    _rank = 1


@_documented
class CircularPad2d(_CircularPad):
    _rank = 2


@_documented
class CircularPad3d(_CircularPad):
    _rank = 3
