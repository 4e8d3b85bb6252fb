"""Attach the functions of this package to Tensor as operators and methods."""

from fastconv.arrays import is_array
from fastconv.autograd import Tensor, raw
from fastconv.errors import GraphError
from fastconv.functional import activation, elementwise, reduction, shape
from fastconv.functional.linear import matmul

_METHODS = {
    elementwise: (
        "abs", "add", "clamp", "cos", "div", "eq", "exp", "expm1", "ge", "gt", "isnan", "le", "log", "log1p", "lt",
        "maximum", "minimum", "mul", "ne", "neg", "pow", "reciprocal", "rsqrt", "sigmoid", "sign", "sin", "sqrt",
        "square", "sub", "tanh",
    ),
    reduction: ("amax", "amin", "argmax", "argmin", "logsumexp", "max", "mean", "min", "std", "sum", "var"),
    shape: (
        "broadcast_to", "chunk", "clone", "contiguous", "flatten", "flip", "movedim", "permute", "reshape", "split",
        "squeeze", "transpose", "unflatten", "unsqueeze",
    ),
    activation: ("log_softmax", "relu", "softmax"),
}  # fmt: skip

_OPERATORS = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.div,
    "pow": elementwise.pow,
    "matmul": matmul,
}

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _operator(function):
    """A dunder method that lets the other side try when it is nothing to compute with."""

    def method(self, other):
        return function(self, other) if _is_operand(other) else NotImplemented

    return method


def _reflected(function):
    def method(self, other):
        return function(other, self) if _is_operand(other) else NotImplemented

    return method


def _is_operand(value):
    return isinstance(value, (Tensor, bool, int, float)) or is_array(value) or hasattr(value, "dtype")


def _size(self, dim=None):
    """The shape, or the size of one axis."""
    return self.shape if dim is None else self.shape[shape._axis("size", self.ndim, dim)]


def _setitem(self, index, value):
    """Write into the array: allowed on a leaf that requires no gradient."""
    if self.requires_grad:
        raise GraphError(
            "setitem", "self", "a tensor that requires a gradient", "one that does not",
            "build the result with fastconv.where or fastconv.cat",
        )  # fmt: skip
    plain = tuple(raw(i) for i in index) if isinstance(index, tuple) else raw(index)
    self.data[plain] = raw(value)


def _to(self, dtype):
    """In another dtype."""
    return elementwise.cast(self, dtype)


def attach():
    """Give Tensor its operators and methods."""
    for module, names in _METHODS.items():
        for name in names:
            setattr(Tensor, name, getattr(module, name))
    Tensor.matmul = matmul
    for name, function in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", _operator(function))
        setattr(Tensor, f"__r{name}__", _reflected(function))
    for name in _COMPARISONS:
        setattr(Tensor, f"__{name}__", _operator(getattr(elementwise, name)))
    Tensor.__hash__ = object.__hash__  # defining __eq__ took it away; tensors are keys by identity
    Tensor.__neg__ = elementwise.neg
    Tensor.__abs__ = elementwise.abs
    Tensor.__getitem__ = shape.getitem
    Tensor.__setitem__ = _setitem
    Tensor.view = shape.reshape
    Tensor.expand = shape.broadcast_to
    Tensor.size = _size
    Tensor.dim = lambda self: self.ndim
    Tensor.numel = lambda self: self.data.size
    Tensor.to = Tensor.astype = _to
    Tensor.float = lambda self: elementwise.cast(self, "float32")
    Tensor.double = lambda self: elementwise.cast(self, "float64")
    Tensor.half = lambda self: elementwise.cast(self, "float16")
    Tensor.T = property(lambda self: shape.permute(self, tuple(range(self.ndim))[::-1]))
    Tensor.mT = property(lambda self: shape.transpose(self, -2, -1))
