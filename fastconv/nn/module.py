"""Module: an object that holds parameters, buffers and other modules, as torch.nn.Module."""

from collections import OrderedDict

from fastconv.arrays import describe, is_array, is_float, namespace_of, on_device_of
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.hooks import add_hook
from fastconv.nn.parameter import Parameter, float_dtype
from fastconv.nn.state import copy_state, matched_state
from fastconv.transfer import place

_TABLES = ("_parameters", "_buffers", "_modules")


class Module:
    """Base class of every layer and network; subclasses define forward().

    Assigning a Parameter or a Module to an attribute registers it; register_buffer keeps state that
    is not learned. A subclass calls super().__init__() before it assigns anything.

    Attributes:
        training: Whether train() or eval() was called last; True at first.
    """

    # Own names that a state dict may lack, for state that early versions of PyTorch did not write.
    _optional_keys = ()

    def __init__(self):
        for table in _TABLES:
            object.__setattr__(self, table, {})
        self._transient = set()  # names of buffers that are no part of state_dict
        self._forward_hooks = OrderedDict()
        self._forward_pre_hooks = OrderedDict()
        self.training = True

    def forward(self, *args, **kwargs):
        """Compute the result; called by the module itself, hooks around it.

        Raises:
            NotImplementedError: The subclass defines no forward().
        """
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args, **kwargs):
        for hook, with_kwargs in tuple(self._forward_pre_hooks.values()):
            result = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if result is not None and with_kwargs:
                args, kwargs = result
            elif result is not None:
                args = result if isinstance(result, tuple) else (result,)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self._forward_hooks.values()):
            result = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if result is None else result
        return output

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call hook(module, args) before every forward(); what it returns replaces args.

        Args:
            hook: The function; with with_kwargs it is called as hook(module, args, kwargs) and returns both.
            prepend: Whether it runs before the hooks that are there already.
            with_kwargs: Whether it sees keyword arguments.

        Returns:
            A RemovableHandle.
        """
        return add_hook(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call hook(module, args, output) after every forward(); what it returns replaces output.

        Args:
            hook: The function; with with_kwargs it is called as hook(module, args, kwargs, output).
            prepend: Whether it runs before the hooks that are there already.
            with_kwargs: Whether it sees keyword arguments.

        Returns:
            A RemovableHandle.
        """
        return add_hook(self._forward_hooks, hook, prepend, with_kwargs)

    def __getattr__(self, name):  # only called for what __dict__ and the class lack
        for table in _TABLES:
            found = self.__dict__.get(table, ())
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        if isinstance(value, Parameter):
            self._forget(name)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name)
            self.add_module(name, value)
        elif name in self.__dict__.get("_parameters", ()):
            self.register_parameter(name, value)
        elif name in self.__dict__.get("_modules", ()):
            self.add_module(name, value)
        elif name in self.__dict__.get("_buffers", ()):
            self._buffers[name] = _as_buffer(name, value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name):
        if not self._forget(name):
            object.__delattr__(self, name)

    def __dir__(self):
        return sorted({*super().__dir__(), *(name for table in _TABLES for name in self.__dict__.get(table, ()))})

    def _forget(self, name):
        """Take the attribute out of wherever it is registered; whether it was anywhere."""
        self.__dict__.get("_transient", set()).discard(name)
        tables = (self.__dict__, *(self.__dict__.get(table, {}) for table in _TABLES))
        return sum(table.pop(name, self) is not self for table in tables) > 0

    def _check_name(self, operator, name, table):
        """Refuse a name that cannot be registered, or a module that was not initialised."""
        if table not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: {name}: got an assignment before Module.__init__() was called, "
                f"expected an initialised module; call super().__init__() first"
            )
        if not isinstance(name, str):
            raise DTypeError(operator, "name", describe(name), "a string")
        if not name or "." in name:
            raise ShapeError(operator, "name", repr(name), "a name that is not empty and has no dot")
        if hasattr(self, name) and name not in self.__dict__[table]:
            raise ShapeError(operator, "name", repr(name), "a name that is no attribute yet")

    def register_parameter(self, name, param):
        """Add a parameter, or None for one that the module does without.

        Raises:
            ShapeError: The name is taken, empty or holds a dot.
            DTypeError: param is neither a Parameter nor None.
        """
        self._check_name("register_parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise DTypeError(
                "register_parameter", name, describe(raw(param)), "a Parameter or None", "wrap it in nn.Parameter"
            )
        self._parameters[name] = param

    def register_buffer(self, name, tensor, persistent=True):
        """Add state that is not learned, such as a running mean.

        Args:
            name: The attribute under which the buffer is found.
            tensor: Tensor or array, or None; kept as a Tensor on the same array.
            persistent: Whether state_dict includes it.

        Raises:
            ShapeError: The name is taken, empty or holds a dot.
            DTypeError: tensor is none of these.
        """
        self._check_name("register_buffer", name, "_buffers")
        self._buffers[name] = _as_buffer(name, tensor)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name, module):
        """Add a child, or None for one that the module does without.

        Raises:
            ShapeError: The name is taken, empty or holds a dot.
            DTypeError: module is neither a Module nor None.
        """
        self._check_name("add_module", name, "_modules")
        if module is not None and not isinstance(module, Module):
            raise DTypeError("add_module", name, describe(raw(module)), "a Module or None")
        self._modules[name] = module

    def register_module(self, name, module):
        """The same as add_module."""
        self.add_module(name, module)

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """(name, module) of this module, under the name prefix, and of all below it, parents first.

        Args:
            memo: Set of the modules to leave out; grows by those that were given.
            prefix: What the names start with.
            remove_duplicate: Whether a module that is found twice is given once.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child.named_modules(memo, _joined(prefix, name), remove_duplicate)

    def modules(self):
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self):
        """(name, module) of the modules directly below, each once."""
        seen = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self):
        """The modules directly below, each once."""
        return (child for _, child in self.named_children())

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """(name, Parameter) of this module and, if recurse, of all below it."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """The parameters of this module and, if recurse, of all below it, each once."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """(name, Tensor) of the buffers of this module and, if recurse, of all below it."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """The buffers of this module and, if recurse, of all below it, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, table, prefix, recurse, remove_duplicate):
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else ((prefix, self),)
        seen = set()  # of ids: == between tensors compares their elements
        for path, module in modules:
            for name, value in getattr(module, table).items():
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield _joined(path, name), value

    def get_submodule(self, target):
        """The module at a dotted path below this one; "" is this one.

        Raises:
            AttributeError: There is none.
        """
        module = self
        for name in target.split(".") if target else ():
            module = module._modules.get(name)
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no submodule {target!r}")
        return module

    def get_parameter(self, target):
        """The parameter at a dotted path.

        Raises:
            AttributeError: There is none.
        """
        return self._at(target, "_parameters", "parameter")

    def get_buffer(self, target):
        """The buffer at a dotted path.

        Raises:
            AttributeError: There is none.
        """
        return self._at(target, "_buffers", "buffer")

    def _at(self, target, table, what):
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), table).get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no {what} {target!r}")
        return found

    def train(self, mode=True):
        """Set training on this module and all below it; returns self."""
        self.training = bool(mode)
        for child in self.children():  # through their own train(), which a subclass may have changed
            child.train(mode)
        return self

    def eval(self):
        """The same as train(False): running statistics instead of the batch's, no dropout; returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Set requires_grad of every parameter; returns self."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none=True):
        """Forget the gradient of every parameter, or fill it with zeros."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                with on_device_of(param.data):
                    param.grad = Tensor(namespace_of(param.data).zeros_like(param.data))

    def apply(self, fn):
        """Call fn(module) on every module below and then on this one; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, device=None, dtype=None):
        """Move parameters, gradients and buffers, in place; the Parameter objects stay the same.

        Args:
            device: "cpu", "cuda" or "cuda:1"; None leaves the device. A dtype may stand here alone.
            dtype: float16, bfloat16, float32 or float64 for all that is floating; None leaves it.

        Returns:
            self.

        Raises:
            ShapeError: There is no device of this name.
            DTypeError: dtype is not floating.
            DeviceError: fastconv cannot reach a GPU here.
        """
        if dtype is None and device is not None and not _names_device(device):
            device, dtype = None, device
        dtype = None if dtype is None else float_dtype("to", dtype)

        def moved(array):
            array = place(array, device)
            with on_device_of(array):
                return array if dtype is None or not is_float(array) else array.astype(dtype, copy=False)

        for param in self.parameters():
            param.data = moved(param.data)
            if param.grad is not None:
                param.grad = Tensor(moved(raw(param.grad)))
        for buffer in self.buffers():
            buffer.data = moved(buffer.data)
        return self

    def cpu(self):
        """The same as to("cpu")."""
        return self.to("cpu")

    def cuda(self, device=0):
        """The same as to("cuda:0"), or another number."""
        return self.to(f"cuda:{device}")

    def float(self):
        """The same as to(dtype="float32")."""
        return self.to(dtype="float32")

    def double(self):
        """The same as to(dtype="float64")."""
        return self.to(dtype="float64")

    def half(self):
        """The same as to(dtype="float16")."""
        return self.to(dtype="float16")

    def bfloat16(self):
        """The same as to(dtype="bfloat16")."""
        return self.to(dtype="bfloat16")

    def _named_state(self, prefix=""):
        """(key, Tensor, whether a state dict may lack it) of all that state_dict holds, in PyTorch's order."""
        for path, module in self.named_modules(prefix=prefix, remove_duplicate=False):
            for table in (module._parameters, module._buffers):
                for name, value in table.items():
                    if value is not None and name not in module._transient:
                        yield _joined(path, name), value, name in module._optional_keys

    def state_dict(self, *, prefix=""):
        """The arrays of all parameters and persistent buffers, by dotted name, in PyTorch's names and layouts.

        Args:
            prefix: What every key starts with, its dot included.

        Returns:
            An OrderedDict of NumPy or CuPy arrays, ready for numpy.savez or safetensors. They are the
            module's own, not copies: training changes them.
        """
        return OrderedDict((prefix + key, value.data) for key, value, _ in self._named_state())

    def load_state_dict(self, state_dict, strict=True):
        """Copy arrays into the parameters and buffers, keeping dtype and device of the module.

        Nothing is changed unless everything fits.

        Args:
            state_dict: Mapping from dotted names to arrays or Tensors: from state_dict(), numpy.load or
                safetensors; of a PyTorch module, {k: v.numpy() for k, v in module.state_dict().items()}.
            strict: Whether missing and unexpected keys are refused.

        Returns:
            A named tuple of the lists missing_keys and unexpected_keys.

        Raises:
            DTypeError: state_dict is no mapping.
            ShapeError: Lists every missing and unexpected key (if strict), every array of a wrong
                shape and every value that is no array.
        """
        keys, pairs = matched_state(type(self).__name__, list(self._named_state()), state_dict, strict)
        for target, array in pairs:
            copy_state(target, array)
        return keys

    def extra_repr(self):
        """What stands between the brackets of the module's own line in repr()."""
        return ""

    def __repr__(self):
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()]
        return _block(type(self).__name__, self.extra_repr(), lines)


def _as_buffer(name, value):
    if value is None or isinstance(value, Tensor):
        return value
    if not is_array(value):
        raise DTypeError("register_buffer", name, describe(value), "a Tensor, an array or None")
    return Tensor(value)


def _joined(prefix, name):
    return f"{prefix}.{name}" if prefix else name


def _names_device(value):
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")


def _block(name, extra, lines):
    """name(extra), with the lines of the children between the brackets, as PyTorch prints modules."""
    if not lines:
        return f"{name}({extra})"
    return f"{name}({extra}\n  " + "\n  ".join(lines) + "\n)"
