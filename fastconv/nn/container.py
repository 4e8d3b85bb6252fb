"""Modules that hold other modules: Sequential, ModuleList, ModuleDict."""

import operator
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.module import Module


class _Row(Module):
    """Children named "0", "1", ... or otherwise, that are found by position."""

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._sliced(list(self._modules.items())[index])
        return self._modules[self._name_at(index)]

    def __setitem__(self, index, module):
        self.add_module(self._name_at(index), module)

    def __delitem__(self, index):
        keys = list(self._modules)
        gone = keys[index] if isinstance(index, slice) else [self._name_at(index)]
        self._renumber([module for key, module in self._modules.items() if key not in gone])

    def _renumber(self, row):
        self._modules.clear()
        self.extend(row)

    def _name_at(self, index):
        try:
            index = operator.index(index)
        except TypeError:
            raise DTypeError(type(self).__name__, "index", describe(index), "an int or a slice") from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index: got {index}, expected one of {len(self)} modules")
        return list(self._modules)[index]

    def append(self, module):
        """Add a module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add modules at the end; returns self.

        Raises:
            DTypeError: modules is not iterable.
        """
        if not isinstance(modules, Iterable):
            raise DTypeError(type(self).__name__, "modules", describe(modules), "an iterable of modules")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index, module):
        """Add a module before position index; those after it are counted on."""
        row = list(self)
        row.insert(index, module)
        self._renumber(row)

    def pop(self, index):
        """Take out the module at a position and return it; those after it are counted on."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Row):
    """Modules called one after the other, each on the result of the one before, as torch.nn.Sequential.

    Args:
        *modules: The modules, named "0", "1", ...; or one mapping from names to modules.

    Shape:
        That of the first module in, that of the last module out.
    """

    def __init__(self, *modules):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def _sliced(self, items):
        return type(self)(OrderedDict(items))

    def forward(self, input):
        for module in self:
            input = module(input)
        return input


class ModuleList(_Row):
    """A list of modules, whose parameters are those of the module that holds it, as torch.nn.ModuleList.

    Args:
        modules: An iterable of modules to start with.
    """

    def __init__(self, modules=None):
        super().__init__()
        self.extend(() if modules is None else modules)

    def _sliced(self, items):
        return type(self)(module for _, module in items)

    def __iadd__(self, modules):
        return self.extend(modules)

    def __add__(self, modules):
        return ModuleList([*self, *modules])


class ModuleDict(Module):
    """A dict of modules, whose parameters are those of the module that holds it, as torch.nn.ModuleDict.

    Args:
        modules: A mapping from names to modules, or pairs of them, to start with.
    """

    def __init__(self, modules=None):
        super().__init__()
        self.update({} if modules is None else modules)

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        del self._modules[key]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self._modules

    def keys(self):
        """The names."""
        return self._modules.keys()

    def values(self):
        """The modules."""
        return self._modules.values()

    def items(self):
        """(name, module) pairs."""
        return self._modules.items()

    def clear(self):
        """Take out every module."""
        self._modules.clear()

    def pop(self, key):
        """Take out the module of a name and return it."""
        return self._modules.pop(key)

    def update(self, modules):
        """Add modules; those of a known name are replaced.

        Args:
            modules: A mapping from names to modules, or an iterable of pairs.

        Raises:
            DTypeError: modules is neither.
        """
        if not isinstance(modules, Iterable):
            raise DTypeError("ModuleDict", "modules", describe(modules), "a mapping or an iterable of pairs")
        pairs = modules.items() if isinstance(modules, Mapping | ModuleDict) else modules
        for pair in pairs:
            if len(pair) != 2:
                raise ShapeError("ModuleDict", "modules", f"{len(pair)} values", "pairs of a name and a module")
            self.add_module(*pair)
