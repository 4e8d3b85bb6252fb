"""Elementwise functions with broadcasting, and their gradients.

The functions themselves come from the array's own module, NumPy or CuPy. A rule computes the gradient in the
shape of the result and sums it back over the axes that were broadcast. Dtypes mix as in PyTorch: Python numbers
promote nothing, integers meet floats in the float's dtype, and integers alone become float32 where a function
needs floats.
"""

import numbers

import numpy

from fastconv import backend
from fastconv.arrays import FLOATS, describe, is_array, namespace_of
from fastconv.autograd import Tensor, is_float, raw, record
from fastconv.errors import DTypeError, ShapeError

_UNARY_DOC = """{summary}, as torch.{name}.

    Args:
        input: Tensor or array of any shape; integers are taken as float32.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no real array.
    """

_BINARY_DOC = """{summary}, as torch.{name}.

    Args:
        input: Tensor, array or number.
        other: Tensor, array or number whose shape broadcasts with that of input.

    Returns:
        The broadcast shape; a Tensor if either is one.

    Raises:
        ShapeError: The shapes do not broadcast.
        DTypeError: An argument is no real array or number.
        DeviceError: The arrays live on different devices.
    """


def check_real(operator, argument, value):
    """The plain array of value.

    Raises:
        DTypeError: value is no array of a real dtype.
    """
    array = raw(value)
    if not is_array(array):
        raise DTypeError(operator, argument, describe(array), "a Tensor or array")
    if array.dtype.kind not in "fiub" and array.dtype.name not in FLOATS:
        raise DTypeError(operator, argument, array.dtype.name, "a real dtype")
    return array


def cast(input, dtype):
    """input in another dtype, as torch.Tensor.to.

    Args:
        input: Tensor or array.
        dtype: NumPy dtype or its name.

    Returns:
        The same shape; input itself where the dtype is the same already.

    Raises:
        DTypeError: input is no real array, or dtype no dtype.
    """
    x = check_real("cast", "input", input)
    try:
        dtype = numpy.dtype(dtype)
    except TypeError:
        raise DTypeError("cast", "dtype", describe(dtype), "a dtype") from None
    if x.dtype == dtype:
        return input
    y = x.astype(dtype)
    if not is_float(y):
        return Tensor(y) if isinstance(input, Tensor) else y
    return record("cast", y, (input,), lambda dy, _: (lambda: cast(dy, x.dtype),))


def sum_to(gradient, shape, dtype):
    """gradient summed over the axes along which `shape` was broadcast to it, in the given dtype."""
    extra = gradient.ndim - len(shape)
    axes = tuple(i for i in range(gradient.ndim) if i < extra or (shape[i - extra] == 1 and gradient.shape[i] != 1))
    if axes:
        gradient = gradient.sum(axis=axes).reshape(shape)
    return cast(gradient, dtype)


def _form(value):
    """(shape, dtype) of a Tensor or array, for sum_to; a rule that holds no more than this keeps no memory."""
    array = raw(value)
    return (array.shape, array.dtype) if is_array(array) else ((), None)


def _operands(name, *values):
    """The arguments as arrays and Python numbers of dtypes that mix as in PyTorch, and their module."""
    plain = [raw(v) for v in values]
    for argument, value in zip(("input", "other"), plain, strict=True):
        if not isinstance(value, numbers.Real) or is_array(value):
            check_real(name, argument, value)
    arrays = [v for v in plain if is_array(v)]
    if not arrays:
        raise DTypeError(name, "input", describe(values[0]), "a Tensor or array, beside at most one number")
    xp = backend.namespace(*arrays)
    try:
        numpy.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = " and ".join(str(list(a.shape)) for a in arrays)
        raise ShapeError(name, "input, other", shapes, "shapes that broadcast") from None
    floats = [a.dtype for a in arrays if is_float(a)]
    if floats:
        target = numpy.result_type(*floats)
    elif any(isinstance(v, float) for v in plain):
        target = numpy.dtype("float32")
    else:
        return plain, xp
    return [v.astype(target, copy=False) if is_array(v) and not is_float(v) else v for v in plain], xp


def _binary(name, summary, compute, rule, saves):
    """An operator of two arguments; `rule` gives the gradients before they are summed back."""

    def function(input, other):
        (a, b), xp = _operands(name, input, other)
        y = xp.asarray(compute(xp, a, b))  # of 0-d arrays NumPy makes scalars
        read = [v if wanted else None for v, wanted in zip((input, other), saves, strict=True)]
        forms = _form(input), _form(other)

        def gradients(dy, _):
            da, db = rule(dy, *read)
            return lambda: sum_to(da(), *forms[0]), lambda: sum_to(db(), *forms[1])

        return record(name, y, (input, other), gradients, saves=[v for v in read if is_array(raw(v))])

    return _named(function, name, _BINARY_DOC.format(name=name, summary=summary))


def _unary(name, summary, compute, rule, reads):
    """A function of one argument; `rule(dy, x, y)` is its gradient, and `reads` "x", "y" or ""."""

    def function(input):
        x = check_real(name, "input", input)
        x = x if is_float(x) else x.astype("float32")
        xp = namespace_of(x)
        y = xp.asarray(compute(xp, x))
        read = input if "x" in reads else None
        saves = () if read is None else (read,)
        return record(name, y, (input,), lambda dy, y: (lambda: rule(dy, read, y),), saves, saves_output="y" in reads)

    return _named(function, name, _UNARY_DOC.format(name=name, summary=summary))


def _named(function, name, doc):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _divide(xp, a, b):
    if not any(is_array(v) and is_float(v) for v in (a, b)):
        a, b = (v.astype("float32") if is_array(v) else v for v in (a, b))
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return xp.true_divide(a, b)


def _ties(dy, chosen, equal):
    """Gradient of a maximum or minimum: whole where this side was chosen, half at ties, as in PyTorch."""
    xp = namespace_of(dy.data)
    return mul(dy, Tensor(xp.where(equal, 0.5, chosen).astype(dy.dtype)))


def _quiet(function_name):
    """A function of the array module that gives inf and NaN without a warning, as PyTorch does."""

    def compute(xp, *args):
        with numpy.errstate(all="ignore"):
            return getattr(xp, function_name)(*args)

    return compute


add = _binary(
    "add", "Sum", _quiet("add"), lambda dy, a, b: (lambda: dy, lambda: dy), (False, False)
)
sub = _binary(
    "sub", "Difference", _quiet("subtract"), lambda dy, a, b: (lambda: dy, lambda: neg(dy)), (False, False)
)
mul = _binary(
    "mul", "Product", _quiet("multiply"), lambda dy, a, b: (lambda: mul(dy, b), lambda: mul(dy, a)), (True, True)
)
div = _binary(
    "div", "Quotient; integers divide to float32", _divide,
    lambda dy, a, b: (lambda: div(dy, b), lambda: neg(div(mul(dy, a), mul(b, b)))), (True, True),
)  # fmt: skip
maximum = _binary(
    "maximum", "The larger of two, NaN if either is", _quiet("maximum"),
    lambda dy, a, b: (lambda: _ties(dy, raw(a) > raw(b), raw(a) == raw(b)),
                      lambda: _ties(dy, raw(b) > raw(a), raw(a) == raw(b))), (True, True),
)  # fmt: skip
minimum = _binary(
    "minimum", "The smaller of two, NaN if either is", _quiet("minimum"),
    lambda dy, a, b: (lambda: _ties(dy, raw(a) < raw(b), raw(a) == raw(b)),
                      lambda: _ties(dy, raw(b) < raw(a), raw(a) == raw(b))), (True, True),
)  # fmt: skip


def _power_base(dy, a, b):
    # At exponent 0 the factor b is 0, and 0 ** -1 must not make a NaN of it.
    exponent = where(_equal_zero(b), 1.0, sub(b, 1)) if is_array(raw(b)) else (b - 1 if b != 0 else 1.0)
    return mul(dy, mul(pow(a, exponent), b))


def _power_exponent(dy, a, b):
    y = pow(a, b)
    return mul(dy, where(raw(y) == 0, 0.0, mul(y, log(a if is_array(raw(a)) else full_like(raw(b), a)))))


def _equal_zero(value):
    return raw(value) == 0


def full_like(array, number):
    """An array of one number, shaped as array."""
    return namespace_of(array).full_like(array, number)


pow = _binary(
    "pow", "Power", _quiet("power"),
    lambda dy, a, b: (lambda: _power_base(dy, a, b), lambda: _power_exponent(dy, a, b)), (True, True),
)  # fmt: skip

neg = _unary("neg", "The negative", lambda xp, x: -x, lambda dy, x, y: neg(dy), "")
exp = _unary("exp", "The exponential", _quiet("exp"), lambda dy, x, y: mul(dy, y), "y")
log = _unary("log", "The natural logarithm", _quiet("log"), lambda dy, x, y: div(dy, x), "x")
log1p = _unary("log1p", "log(1 + x), exact near 0", _quiet("log1p"), lambda dy, x, y: div(dy, add(x, 1)), "x")
expm1 = _unary("expm1", "exp(x) - 1, exact near 0", _quiet("expm1"), lambda dy, x, y: mul(dy, add(y, 1)), "y")
sqrt = _unary("sqrt", "The square root", _quiet("sqrt"), lambda dy, x, y: div(dy, mul(y, 2)), "y")
rsqrt = _unary(
    "rsqrt", "1 / sqrt(x)", lambda xp, x: _quiet("reciprocal")(xp, _quiet("sqrt")(xp, x)),
    lambda dy, x, y: mul(dy, mul(mul(mul(y, y), y), -0.5)), "y",
)  # fmt: skip
reciprocal = _unary("reciprocal", "1 / x", _quiet("reciprocal"), lambda dy, x, y: neg(mul(dy, mul(y, y))), "y")
square = _unary("square", "x * x", _quiet("square"), lambda dy, x, y: mul(dy, mul(x, 2)), "x")
sin = _unary("sin", "The sine", _quiet("sin"), lambda dy, x, y: mul(dy, cos(x)), "x")
cos = _unary("cos", "The cosine", _quiet("cos"), lambda dy, x, y: neg(mul(dy, sin(x))), "x")
tanh = _unary("tanh", "The hyperbolic tangent", _quiet("tanh"), lambda dy, x, y: mul(dy, sub(1, mul(y, y))), "y")
abs = _unary("abs", "The absolute value", _quiet("abs"), lambda dy, x, y: mul(dy, sign(x)), "x")


def _sigmoid(xp, x):
    """1 / (1 + exp(-x)) without overflow."""
    with numpy.errstate(under="ignore", invalid="ignore"):
        small = xp.exp(-xp.abs(x))
        return (xp.where(x >= 0, 1, small) / (1 + small)).astype(x.dtype)


sigmoid = _unary(
    "sigmoid", "1 / (1 + exp(-x))", _sigmoid, lambda dy, x, y: mul(dy, mul(y, sub(1, y))), "y"
)


def sign(input):
    """-1, 0 or 1, as torch.sign; no gradient flows.

    Args:
        input: Tensor or array.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no real array.
    """
    x = check_real("sign", "input", input)
    return _plain(namespace_of(x).sign(x), input)


def clamp(input, min=None, max=None):
    """input limited to [min, max], as torch.clamp; NaN stays.

    Args:
        input: Tensor or array.
        min, max: Numbers, or None for no limit.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no real array, or a limit no number.
        ShapeError: Both limits are None.
    """
    x = check_real("clamp", "input", input)
    if min is None and max is None:
        raise ShapeError("clamp", "min, max", "None for both", "at least one limit")
    for argument, limit in (("min", min), ("max", max)):
        if limit is not None and not isinstance(limit, numbers.Real):
            raise DTypeError("clamp", argument, describe(limit), "a number or None")
    y = namespace_of(x).clip(x, min, max)

    def rule(dy, _):
        inside = raw(input) == raw(input)
        if min is not None:
            inside &= raw(input) >= min
        if max is not None:
            inside &= raw(input) <= max
        return (lambda: mul(dy, Tensor(inside.astype(dy.dtype))),)

    return record("clamp", y, (input,), rule, saves=(input,))


def where(condition, input, other):
    """input where condition holds, other elsewhere, as torch.where.

    Args:
        condition: Tensor or array of booleans.
        input, other: Tensors, arrays or numbers that broadcast with condition; one of them no number.

    Returns:
        The broadcast shape; a Tensor if input or other is one.

    Raises:
        ShapeError: The shapes do not broadcast.
        DTypeError: condition is not boolean, or an argument no real array or number.
        DeviceError: The arrays live on different devices.
    """
    chosen = check_real("where", "condition", condition)
    if chosen.dtype.kind != "b":
        raise DTypeError("where", "condition", chosen.dtype.name, "bool")
    (a, b), xp = _operands("where", input, other)
    backend.of(chosen, *(v for v in (a, b) if is_array(v)))
    try:
        y = xp.where(chosen, a, b)
    except ValueError:
        shapes = " and ".join(str(list(v.shape)) for v in (chosen, a, b) if is_array(v))
        raise ShapeError("where", "condition, input, other", shapes, "shapes that broadcast") from None

    forms = _form(input), _form(other)

    def rule(dy, _):
        return lambda: sum_to(where(chosen, dy, 0), *forms[0]), lambda: sum_to(where(chosen, 0, dy), *forms[1])

    return record("where", y, (input, other), rule, saves=(chosen,))


def _plain(array, *inputs):
    """array as a Tensor if any input is one: for results that no gradient flows through."""
    return Tensor(array) if any(isinstance(v, Tensor) for v in inputs) else array


def _comparison(name, summary, symbol):
    def function(input, other):
        (a, b), xp = _operands(name, input, other)
        return _plain(getattr(xp, symbol)(a, b), input, other)

    doc = _BINARY_DOC.format(name=name, summary=summary).replace("broadcast shape;", "broadcast shape, bool;")
    return _named(function, name, doc)


eq = _comparison("eq", "Whether equal", "equal")
ne = _comparison("ne", "Whether different", "not_equal")
lt = _comparison("lt", "Whether less", "less")
le = _comparison("le", "Whether at most", "less_equal")
gt = _comparison("gt", "Whether greater", "greater")
ge = _comparison("ge", "Whether at least", "greater_equal")


def isnan(input):
    """Whether each element is NaN, as torch.isnan.

    Args:
        input: Tensor or array.

    Returns:
        bool, the shape of input; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no real array.
    """
    x = check_real("isnan", "input", input)
    return _plain(x != x, input)
