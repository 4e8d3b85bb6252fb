"""Every refusal of the library: who refuses, which argument, what it got, what it expected.

The classes inherit from the built-in error that a caller would expect to catch, so
``except ValueError`` works without knowing fastconv. Geometry and values are ShapeError, types are
DTypeError, places are DeviceError, the tape is GraphError.
"""


class FastconvError(Exception):
    """Base of every error that fastconv raises on purpose.

    Args:
        operator: Public name of the function or class that refuses, such as "conv2d".
        argument: Name of the argument at fault, as the caller spelt it.
        got: What arrived: a shape, a dtype, a value.
        expected: What would have been accepted.
        fix: What the caller can do about it, when there is one obvious thing.
    """

    def __init__(self, operator, argument, got, expected, fix=None):
        self.operator = operator
        self.argument = argument
        self.got = got
        self.expected = expected
        self.fix = fix
        message = f"{operator}: {argument}: got {got}, expected {expected}"
        super().__init__(f"{message}; {fix}" if fix else message)

    def __reduce__(self):  # the default would pickle the message as the operator
        return type(self), (self.operator, self.argument, self.got, self.expected, self.fix)


class ShapeError(FastconvError, ValueError):
    """Shapes disagree, or a size, stride, padding or axis is out of range."""


class DTypeError(FastconvError, TypeError):
    """A dtype is unsupported or mixed, or an argument is of the wrong Python type."""


class DeviceError(FastconvError, RuntimeError):
    """Arrays live on different devices, or their device has no backend here."""


class CudaError(FastconvError, RuntimeError):
    """The CUDA runtime refused a launch or an allocation."""


class GraphError(FastconvError, RuntimeError):
    """The tape cannot do what was asked: freed, changed in place, or never recorded."""
