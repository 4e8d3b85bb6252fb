"""Attaches the functions of this package to Tensor, as operators and methods."""

from fastconv.arrays import is_array
from fastconv.autograd import Tensor, raw, record
from fastconv.errors import GraphError, ShapeError
from fastconv.functional import (
    activation,
    distance,
    elementwise,
    indexing,
    inplace,
    product,
    reduction,
    repetition,
    rounding,
    selection,
    shape,
    softmax,
)
from fastconv.functional.linear import matmul
from fastconv.functional.operands import as_axis, as_dtype, is_number, on_device, quiet
from fastconv.transfer import place

_METHODS = {
    elementwise: (
        "abs", "add", "clamp", "cos", "div", "eq", "exp", "expm1", "ge", "gt", "isfinite", "isinf", "isnan", "le",
        "log", "log1p", "lt", "maximum", "minimum", "mul", "ne", "neg", "pow", "reciprocal", "rsqrt", "sigmoid",
        "sign", "sin", "sqrt", "square", "sub", "tanh",
    ),
    reduction: (
        "all", "amax", "amin", "any", "argmax", "argmin", "logsumexp", "max", "mean", "min", "std", "sum", "var",
    ),
    shape: (
        "broadcast_to", "clone", "contiguous", "flatten", "flip", "movedim", "permute", "reshape", "squeeze",
        "ravel", "swapaxes", "t", "transpose", "unflatten", "unsqueeze",
    ),
    selection: (
        "argsort", "gather", "index_select", "masked_fill", "narrow", "roll", "select", "sort", "take_along_dim",
        "topk", "unbind",
    ),
    repetition: ("repeat", "repeat_interleave", "tril", "triu"),
    product: ("bmm", "cumsum", "dot", "mm", "mv", "outer", "prod"),
    rounding: ("ceil", "floor", "logical_and", "logical_not", "logical_or", "logical_xor", "round", "trunc"),
    distance: ("norm",),
    indexing: ("chunk", "split"),
    activation: ("relu",),
    softmax: ("log_softmax", "softmax"),
}  # fmt: skip

# Of these the reflected one is attached too: 1 - tensor, array @ tensor.
_OPERATORS = {
    "add": elementwise.add, "sub": elementwise.sub, "mul": elementwise.mul, "truediv": elementwise.div,
    "pow": elementwise.pow, "matmul": matmul,
    "and": elementwise.bitwise_and, "or": elementwise.bitwise_or, "xor": elementwise.bitwise_xor,
}  # fmt: skip

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _is_operand(value):
    return isinstance(value, Tensor) or is_number(value) or is_array(value)


def _operator(function):
    function = on_device(function)

    def method(self, other):
        return function(self, other) if _is_operand(other) else NotImplemented

    return method


def _reflected(function):
    function = on_device(function)

    def method(self, other):
        return function(other, self) if _is_operand(other) else NotImplemented

    return method


def _as_method(name, function):
    """A function under the name that Tensor shows for it."""
    function.__name__, function.__qualname__ = name, f"Tensor.{name}"
    return function


def _size(self, dim=None):
    """The shape, or the size of one axis."""
    return self.shape if dim is None else (self.shape or (1,))[as_axis("size", "dim", dim, self.ndim)]


def _expand(self, *sizes):
    """The same as broadcast_to: a view repeated to a larger shape; -1 keeps the size of an axis."""
    return shape.broadcast_to(self, *sizes)


def _view(self, *sizes):
    """The same as reshape."""
    return shape.reshape(self, *sizes)


def _expand_as(self, other):
    """A view repeated to the shape of another tensor or array."""
    return shape.broadcast_to(self, raw(other).shape)


def _view_as(self, other):
    """The same elements in the shape of another tensor or array."""
    return shape.reshape(self, raw(other).shape)


def _tile(self, *dims):
    """The whole repeated along its last axes."""
    return repetition.tile(self, dims[0] if len(dims) == 1 else dims)


def _clamp_min(self, min):
    """The same as clamp with the lower limit alone."""
    return elementwise.clamp(self, min=min)


def _clamp_max(self, max):
    """The same as clamp with the upper limit alone."""
    return elementwise.clamp(self, max=max)


def _setitem(self, index, value):
    """Write to the array in place: only where no gradient is asked for."""
    if self.requires_grad:
        raise GraphError(
            "setitem", "self", "a tensor that requires a gradient", "one that does not",
            "build a new tensor with fastconv.where or fastconv.cat, or write to .data outside the graph",
        )  # fmt: skip
    if isinstance(value, Tensor) and value.requires_grad:
        raise GraphError(
            "setitem", "value", "a tensor that requires a gradient", "one that does not",
            "its gradient would be lost: build a new tensor with fastconv.where or fastconv.cat, or use detach()",
        )  # fmt: skip
    plain = tuple(raw(i) for i in index) if isinstance(index, tuple) else raw(index)
    try:
        with quiet():
            self.data[plain] = raw(value)
    except (IndexError, ValueError) as refused:
        raise ShapeError("setitem", "index", str(refused), f"what fits into {list(self.shape)}") from None


def _to(self, *targets, dtype=None, device=None):
    """In another dtype or on another device: a dtype, the name of a dtype or device, or a Tensor to be like."""
    for target in targets:
        if isinstance(target, Tensor):
            dtype, device = target.dtype, target.device
        elif isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
            device = target
        else:
            dtype = target
    moved = self if device is None else _moved(self, device)
    return moved if dtype is None else elementwise.cast(moved, as_dtype("to", dtype))


def _moved(self, device):
    """On another device; the gradient comes back to this one."""
    home, data = self.device, place(self.data, device)
    if data is self.data:
        return self

    def rule(dy, _):
        return (lambda: _moved(dy, home),)

    return record("to", data, (self,), rule)


def _cpu(self):
    """The same as to("cpu")."""
    return _to(self, "cpu")


def _cuda(self, device=0):
    """The same as to("cuda:0"), or another number."""
    return _to(self, f"cuda:{device}")


def _type_as(self, other):
    """In the dtype of another tensor."""
    return _to(self, dtype=raw(other).dtype)


def _array(self, dtype=None, copy=None):
    """For numpy.asarray: the values on the host, refused like numpy() where a gradient would be lost."""
    host = self.numpy()
    return host.astype(dtype, copy=bool(copy)) if dtype is not None or copy else host


def _requires_grad_(self, requires_grad=True):
    """Set requires_grad; returns self."""
    self.requires_grad = requires_grad
    return self


def _to_dtype(name):
    def method(self):
        return elementwise.cast(self, name)

    return method


def attach():
    """Give Tensor its operators and methods."""
    for module, names in _METHODS.items():
        for name in names:
            setattr(Tensor, name, on_device(getattr(module, name)))
    for name, function in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", _as_method(f"__{name}__", _operator(function)))
        setattr(Tensor, f"__r{name}__", _as_method(f"__r{name}__", _reflected(function)))
    for name in _COMPARISONS:
        setattr(Tensor, f"__{name}__", _as_method(f"__{name}__", _operator(getattr(elementwise, name))))
    for name, dtype in (("float", "float32"), ("double", "float64"), ("half", "float16"), ("bfloat16", "bfloat16"),
                        ("long", "int64"), ("int", "int32"), ("bool", "bool")):  # fmt: skip
        setattr(Tensor, name, on_device(_as_method(name, _to_dtype(dtype))))
    for name, function in (("size", _size), ("expand", _expand), ("view", _view), ("to", _to), ("cpu", _cpu),
                           ("cuda", _cuda), ("type_as", _type_as), ("expand_as", _expand_as), ("view_as", _view_as),
                           ("reshape_as", _view_as), ("tile", _tile), ("clamp_min", _clamp_min),
                           ("clamp_max", _clamp_max), ("requires_grad_", _requires_grad_),
                           ("__setitem__", _setitem), ("__array__", _array)):  # fmt: skip
        setattr(Tensor, name, on_device(_as_method(name, function)))
    for name, function in inplace.methods().items():
        setattr(Tensor, name, function)
    Tensor.__hash__ = object.__hash__  # __eq__ compares elements; tensors are keys by identity
    Tensor.__neg__ = on_device(elementwise.neg)
    Tensor.__abs__ = on_device(elementwise.abs)
    Tensor.__invert__ = on_device(elementwise.bitwise_not)
    Tensor.__getitem__ = on_device(indexing.getitem)
    Tensor.astype = on_device(elementwise.cast)
    Tensor.matmul = on_device(matmul)
    Tensor.dim = _as_method("dim", lambda self: self.ndim)
    Tensor.numel = _as_method("numel", lambda self: self.data.size)
    Tensor.T = property(lambda self: shape.permute(self, *reversed(range(self.ndim))), doc="The axes in reverse.")
    Tensor.mT = property(lambda self: shape.transpose(self, -2, -1), doc="The last two axes swapped.")
