"""Functions that make steps: rounding to integers and logic, which no gradient flows through."""

import builtins

from fastconv import backend
from fastconv.arrays import is_float, namespace_of
from fastconv.errors import DTypeError
from fastconv.functional.elementwise import unary
from fastconv.functional.operands import array, as_int, check_broadcast, wrapped
from fastconv.functional.shape import clone

_ROUNDING_DOC = """{what}, as torch.{name}.

    Args:
        input: Tensor or array of any shape; integers stay as they are.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor. Its gradient is 0.

    Raises:
        DTypeError: input is no array, or of bools.
    """

_LOGIC_DOC = """{what}, as torch.{name}.

    Args:
        {arguments}: Tensors or arrays{shapes}; what is not 0 counts as true.

    Returns:
        bool; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not broadcast.
        DTypeError: An argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """


def _rounding(name, what, compute):
    def function(input):
        x = array(name, "input", input)
        if x.dtype.kind == "b":
            raise DTypeError(name, "input", "bool", "numbers", "convert it first")
        if not is_float(x):
            return clone(input)
        return unary(name, input, compute, lambda dy, _: dy * 0.0, None)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _ROUNDING_DOC.format(what=what, name=name)
    return function


floor = _rounding("floor", "The largest integer that is not above", lambda xp, x: xp.floor(x))
ceil = _rounding("ceil", "The smallest integer that is not below", lambda xp, x: xp.ceil(x))
trunc = _rounding("trunc", "The integer part", lambda xp, x: xp.trunc(x))


def round(input, *, decimals=0):
    """The nearest multiple of 10 ** -decimals, of two the even one, as torch.round.

    Args:
        input: Tensor or array of any shape; integers stay as they are.
        decimals: How many decimal places are kept; with integers 0.

    Returns:
        The shape and dtype of input; a Tensor for a Tensor. Its gradient is 0.

    Raises:
        DTypeError: input is no array, or of bools, or of integers beside decimals, or decimals no int.
    """
    places = as_int("round", "decimals", decimals)
    if places and not is_float(array("round", "input", input)):
        raise DTypeError("round", "input", array("round", "input", input).dtype.name, "floats beside decimals")
    scale = 10.0 ** builtins.abs(places)

    def compute(xp, x):
        if places == 0:
            return xp.rint(x)
        return xp.rint(x * scale) / scale if places > 0 else xp.rint(x / scale) * scale

    return _rounding("round", "", compute)(input)


def logical_not(input):
    x = array("logical_not", "input", input)
    return wrapped(namespace_of(x).asarray(x == 0), input)


def _logic(name, what, compute):
    def function(input, other):
        x, w = array(name, "input", input), array(name, "other", other)
        backend.of(x, w)
        check_broadcast(name, {"input": x, "other": w})
        return wrapped(namespace_of(x).asarray(compute(x != 0, w != 0)), input, other)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _LOGIC_DOC.format(what=what, name=name, arguments="input, other", shapes=" that broadcast")
    return function


logical_not.__doc__ = _LOGIC_DOC.format(
    what="Whether an element is 0", name="logical_not", arguments="input", shapes=""
)
logical_and = _logic("logical_and", "Whether both are true", lambda x, w: x & w)
logical_or = _logic("logical_or", "Whether one or both are true", lambda x, w: x | w)
logical_xor = _logic("logical_xor", "Whether one alone is true", lambda x, w: x ^ w)
