"""Modules that hold parameters: ParameterList and ParameterDict."""

import operator
from collections.abc import Iterable, Mapping

from fastconv.arrays import describe, is_array, is_float
from fastconv.autograd import Tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.module import Module
from fastconv.nn.parameter import Parameter


def _as_parameter(container, value):
    """value as PyTorch keeps it: arrays and Tensors become parameters."""
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, Tensor) and not is_array(value):
        raise DTypeError(container, "values", describe(value), "a Parameter, a Tensor or an array")
    return Parameter(value, requires_grad=is_float(value))


def _described(parameter):
    return f"Parameter containing: [{parameter.dtype.name} of size {'x'.join(map(str, parameter.shape))}]"


class ParameterList(Module):
    """A list of parameters of the module that holds it, as torch.nn.ParameterList.

    PyTorch's keeps other objects too; this one refuses them, because they would be in no state_dict.

    Args:
        values: An iterable of Parameters, Tensors or arrays to start with; the last two become Parameters.

    Raises:
        DTypeError: values is not iterable or holds something else.
    """

    def __init__(self, values=None):
        super().__init__()
        self.extend(() if values is None else values)

    def __len__(self):
        return len(self._parameters)

    def __iter__(self):
        return iter(self._parameters.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[self._name_at(index)]

    def __setitem__(self, index, value):
        self.register_parameter(self._name_at(index), _as_parameter("ParameterList", value))

    def __iadd__(self, values):
        return self.extend(values)

    def _name_at(self, index):
        try:
            index = operator.index(index)
        except TypeError:
            raise DTypeError("ParameterList", "index", describe(index), "an int or a slice") from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"ParameterList: index: got {index}, expected one of {len(self)} parameters")
        return str(index % len(self))

    def append(self, value):
        """Add a parameter at the end; returns self.

        Raises:
            DTypeError: value is no Parameter, Tensor or array.
        """
        self.register_parameter(str(len(self)), _as_parameter("ParameterList", value))
        return self

    def extend(self, values):
        """Add parameters at the end; returns self.

        Raises:
            DTypeError: values is not iterable or holds something that is no Parameter, Tensor or array.
        """
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise DTypeError("ParameterList", "values", describe(values), "an iterable of parameters")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self):
        return "\n".join(f"({name}): {_described(p)}" for name, p in self._parameters.items())


class ParameterDict(Module):
    """A dict of parameters of the module that holds it, as torch.nn.ParameterDict.

    PyTorch's keeps other objects too; this one refuses them, because they would be in no state_dict.

    Args:
        parameters: A mapping from names to Parameters, Tensors or arrays, or pairs of them, to start with.

    Raises:
        DTypeError: parameters is neither, or holds something else.
        ShapeError: A pair has not two values.
    """

    def __init__(self, parameters=None):
        super().__init__()
        self.update({} if parameters is None else parameters)

    def __getitem__(self, key):
        return self._parameters[key]

    def __setitem__(self, key, value):
        self.register_parameter(key, _as_parameter("ParameterDict", value))

    def __delitem__(self, key):
        del self._parameters[key]

    def __len__(self):
        return len(self._parameters)

    def __iter__(self):
        return iter(self._parameters)

    def __reversed__(self):
        return reversed(self._parameters)

    def __contains__(self, key):
        return key in self._parameters

    def keys(self):
        """The names."""
        return self._parameters.keys()

    def values(self):
        """The parameters."""
        return self._parameters.values()

    def items(self):
        """(name, parameter) pairs."""
        return self._parameters.items()

    def get(self, key, default=None):
        """The parameter of a name, or default."""
        return self._parameters.get(key, default)

    def setdefault(self, key, default=None):
        """The parameter of a name; an unknown name is given default first."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self):
        """Take out every parameter."""
        self._parameters.clear()

    def pop(self, key):
        """Take out the parameter of a name and return it."""
        return self._parameters.pop(key)

    def popitem(self):
        """Take out the parameter that was added last and return (name, parameter)."""
        return self._parameters.popitem()

    def update(self, parameters):
        """Add parameters; those of a known name are replaced.

        Args:
            parameters: A mapping from names to Parameters, Tensors or arrays, or an iterable of pairs.

        Raises:
            DTypeError: parameters is neither, or holds something else.
            ShapeError: A pair has not two values.
        """
        if not isinstance(parameters, Iterable):
            raise DTypeError("ParameterDict", "parameters", describe(parameters), "a mapping or an iterable of pairs")
        for pair in parameters.items() if isinstance(parameters, Mapping | ParameterDict) else parameters:
            if len(pair) != 2:
                raise ShapeError(
                    "ParameterDict", "parameters", f"{len(pair)} values", "pairs of a name and a parameter"
                )
            self[pair[0]] = pair[1]

    def extra_repr(self):
        return "\n".join(f"({name}): {_described(p)}" for name, p in self._parameters.items())
