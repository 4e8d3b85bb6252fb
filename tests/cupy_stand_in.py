"""A stand-in for CuPy where there is no GPU: arrays of host memory that say they live on one, and behave as CuPy 14's.

What it is for: everything between a public function and the extension, on arrays that are not NumPy's to fastconv,
with the emulator's extension in the place of the one for GPUs. It keeps a log of what would reach a GPU or wait for
one, and refuses what CuPy refuses: NumPy's functions and arrays, arrays of a GPU that is not current, arguments that
CuPy's functions do not have, and functions that CuPy lacks.
"""

import contextlib
import ctypes
import operator
import sys
import types

import numpy as np
import pytest

from fastconv.cuda import runtime

current = [0]  # stack of device numbers
log = []  # (what, device)

# Functions that CuPy has under NumPy's name, with NumPy's arguments as far as fastconv gives them.
FUNCTIONS = {
    "abs", "absolute", "add", "arange", "arctan", "bitwise_and", "bitwise_or", "bitwise_xor", "broadcast_to",
    "ceil", "concatenate", "copysign", "cos", "divide", "equal", "exp", "expand_dims", "expm1", "eye", "flip",
    "floor", "floor_divide", "full", "greater", "greater_equal", "invert", "isfinite", "less", "less_equal", "log",
    "log1p", "log2", "matmul", "maximum", "minimum", "moveaxis", "multiply", "negative", "not_equal", "ones",
    "ones_like", "power", "prod", "put_along_axis", "reciprocal", "right_shift", "rint", "roll", "searchsorted",
    "sign", "sin", "split", "sqrt", "square", "stack", "subtract", "take", "take_along_axis", "tanh", "trunc",
    "zeros", "zeros_like",
}  # fmt: skip

COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


class Device:
    """A GPU by its number; a context in which it is current."""

    def __init__(self, index=None):
        self.id = current[-1] if index is None else index

    def __enter__(self):
        current.append(self.id)

    def __exit__(self, *_):
        current.pop()


class Stream:
    """A stream by its handle."""

    def __init__(self, ptr):
        self.ptr = ptr

    @classmethod
    def from_external(cls, stream):
        return cls(stream.__cuda_stream__()[1])

    def record(self):
        return ("event", self.ptr)

    def wait_event(self, event):
        log.append((*event, self.ptr))

    def synchronize(self):
        raise AssertionError("a call waited for the GPU")


streams = {0: Stream(1000), 1: Stream(1001)}


class Pointer:
    """An address, with the array that keeps its memory alive."""

    def __init__(self, ptr, owner):
        self.ptr, self.owner = ptr, owner

    def __add__(self, offset):
        return Pointer(self.ptr + offset, self.owner)

    def memset(self, value, size):
        ctypes.memset(self.ptr, value, size)


class ndarray:  # noqa: N801 -- CuPy's own name
    """An array that says it lives on a GPU: the one that was current when it was made."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        self.index, self.base, self.memptr, self.walk = current[-1], None, memptr, strides
        if isinstance(memptr, Pointer):  # memory of another array
            bytes_ = f"|V{np.dtype(dtype).itemsize}"
            known = {"data": (memptr.ptr, False), "shape": shape, "typestr": bytes_, "strides": strides, "version": 3}
            view = types.SimpleNamespace(__array_interface__=known, owner=memptr.owner)
            self.host = np.asarray(view).view(dtype)
        else:
            assert np.dtype(dtype).isnative, "CuPy has arrays of the machine's byte order only"
            self.host = np.empty(shape, dtype, order)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_function__(self, function, *_):
        raise TypeError(f"numpy.{function.__name__} was given an array of a GPU")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__":
            return NotImplemented
        if "out" in options:
            (options["out"],) = options["out"]
        if ufunc.__name__ in COMPARISONS.values():  # to which NumPy gives its scalars as arrays
            inputs = [x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs]
        return _called(ufunc.__name__, *inputs, **options)

    def __reduce__(self):
        raise AssertionError("an array was pickled")

    def __deepcopy__(self, memo):
        with self.device:
            return self.copy()

    @property
    def device(self):
        return Device(self.index)

    @property
    def data(self):
        return Pointer(self.host.ctypes.data if self.size else 0, self)

    @property
    def flags(self):
        flags = self.host.flags
        return types.SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def T(self):  # noqa: N802 -- NumPy's own name
        return self.transpose()

    def get(self):
        log.append(("copy to host", self.index))
        return self.host.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return _new(_here(self)[_index(index)], self)

    def __setitem__(self, index, value):
        _here(self)[_index(index)] = _here(value)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        assert casting is None
        assert subok is None
        if not copy and np.dtype(dtype) == self.dtype and order == "K":
            return self
        return _new(_here(self).astype(dtype, order))

    def copy(self, order="C"):
        return _new(_here(self).copy(order))

    def view(self, dtype=None):
        return _new(self.host.view(dtype), self)

    def reshape(self, *shape, order="C"):
        return _new(_here(self).reshape(*shape, order=order), self)

    def ravel(self, order="C"):
        return _new(_here(self).ravel(order), self)

    def transpose(self, *axes):
        return _new(self.host.transpose(*axes), self)

    def swapaxes(self, axis1, axis2):
        return _new(self.host.swapaxes(axis1, axis2), self)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return _new(_here(self).sum(axis, dtype, out, keepdims))

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return _new(_here(self).mean(axis, dtype, out, keepdims))

    def max(self, axis=None, out=None, keepdims=False):
        return _new(_here(self).max(axis=axis, out=out, keepdims=keepdims))

    def min(self, axis=None, out=None, keepdims=False):
        return _new(_here(self).min(axis=axis, out=out, keepdims=keepdims))

    def any(self, axis=None, out=None, keepdims=False):
        return _new(_here(self).any(axis=axis, out=out, keepdims=keepdims))

    def all(self, axis=None, out=None, keepdims=False):
        return _new(_here(self).all(axis=axis, out=out, keepdims=keepdims))

    def clip(self, min=None, max=None, out=None):
        if self.dtype.name == "bfloat16":
            raise TypeError("Wrong type of arguments for cupy_clip")
        y = _here(self).clip(min, max, None if out is None else _here(out))
        return _new(y) if out is None else out


for _name in ("shape", "strides", "dtype", "ndim", "size", "nbytes", "itemsize"):
    setattr(ndarray, _name, property(operator.attrgetter(f"host.{_name}")))


def _attach(name, ufunc):
    """Python's operator on CuPy arrays; an operand that opts out of ufuncs is asked itself."""

    def forward(self, other):
        return NotImplemented if _opts_out(other) else _called(ufunc, self, other)

    def reflected(self, other):
        return NotImplemented if _opts_out(other) else _called(ufunc, other, self)

    def in_place(self, other):
        return _called(ufunc, self, other, out=self)

    setattr(ndarray, f"__{name}__", forward)
    if name not in COMPARISONS:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


def _opts_out(value):
    return getattr(value, "__array_ufunc__", 0) is None


for _name, _ufunc in (
    ("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"), ("pow", "power"),
    ("and", "bitwise_and"), ("or", "bitwise_or"), ("xor", "bitwise_xor"), ("matmul", "matmul"),
    *COMPARISONS.items(),
):  # fmt: skip
    _attach(_name, _ufunc)
for _name, _ufunc in (("neg", "negative"), ("abs", "absolute"), ("invert", "invert")):
    setattr(ndarray, f"__{_name}__", lambda self, ufunc=_ufunc: _called(ufunc, self))


def _here(value):
    """What kernels on the current GPU would read: host memory of an array, or a number as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_here, value))
    if isinstance(value, ndarray):
        if value.index != current[-1]:
            raise ValueError(f"The array is on GPU {value.index} while {current[-1]} is current.")
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def _index(index):
    """An index of host memory; how many elements a mask picks is asked of the GPU."""
    parts = _here(index if isinstance(index, tuple) else (index,))
    if any(getattr(getattr(part, "dtype", None), "kind", "") == "b" and part.ndim for part in parts):
        log.append(("count of a mask", current[-1]))
    return parts


def _new(host, parent=None):
    """An array of the current GPU; a view of its parent where it has that one's memory. Never a number."""
    array = ndarray.__new__(ndarray)
    array.host, array.index, array.base, array.memptr, array.walk = np.asarray(host), current[-1], None, None, None
    if parent is not None and np.may_share_memory(array.host, parent.host):
        array.base, array.index = parent if parent.base is None else parent.base, parent.index
    return array


def _called(name, *args, out=None, **options):
    """A function of NumPy on arrays of the current GPU."""
    if name not in FUNCTIONS:
        raise TypeError(f"this function is not known to be in CuPy: {name}")
    options = {key: _here(value) for key, value in options.items()}
    if out is not None:
        options["out"] = _here(out)
    y = getattr(np, name)(*map(_here, args), **options)
    if out is not None or y is None:
        return out
    parent = next((a for a in args if isinstance(a, ndarray)), None)
    return [_new(part, parent) for part in y] if isinstance(y, list) else _new(y, parent)


def _extreme(name):
    def reduction(a, axis=None, out=None, keepdims=False):
        return getattr(a, name)(axis, out, keepdims)

    return reduction


def _position(name):
    def reduction(a, axis=None, dtype=None, out=None, keepdims=False):
        assert dtype is None
        assert out is None
        x = _here(a)
        nan = np.flip(x != x, axis)  # of several NaN it finds any, here the last
        last = x.shape[axis] - 1 - nan.argmax(axis, keepdims=keepdims)
        found = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        return _new(np.where(nan.any(axis, keepdims=keepdims), last, found))

    return reduction


def _where(condition, x, y):
    chosen = _new(np.where(_here(condition), _here(x), _here(y)))
    return chosen.astype("float32") if chosen.dtype.name == "bfloat16" else chosen  # it has no bfloat16 of its own


def _copied(value, dtype=None, order="K"):
    """What cupy.array and cupy.asarray do but for the copy of what is there already."""
    if isinstance(value, ndarray) and value.index != current[-1]:
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        return _new(value.host.astype(value.dtype if dtype is None else dtype, order))
    host = value.host if isinstance(value, ndarray) else np.asarray(value)
    host = host.astype(host.dtype if dtype is None else dtype, "C" if order == "K" and host.ndim < 2 else order)
    return _new(host.astype(host.dtype.newbyteorder("="), copy=False))


def _array(obj, dtype=None, copy=True, order="K"):
    known = isinstance(obj, ndarray) and obj.index == current[-1] and dtype in (None, obj.dtype)
    return obj if known and not copy else _copied(obj, dtype, order)


def _nonzero(a):
    log.append(("count of a mask", current[-1]))
    return tuple(map(_new, np.nonzero(_here(a))))


def _argsort(a, axis=-1):
    return _new(np.argsort(_here(a), axis, kind="stable"))


def _norm(x, ord=None):
    return _new(np.linalg.norm(_here(x), ord))


def module():
    """The module that stands in for cupy."""
    cupy = types.ModuleType("cupy")
    errors = types.SimpleNamespace(CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}))
    cupy.ndarray, cupy.array, cupy.where = ndarray, _array, _where
    cupy.asarray = lambda a, dtype=None, order="K": _array(a, dtype, False, order)
    cupy.ascontiguousarray = lambda a: a if a.flags.c_contiguous else a.copy()
    cupy.empty = lambda shape, dtype=float, order="C": ndarray(shape, dtype, order=order)
    cupy.empty_like = lambda prototype: ndarray(prototype.shape, prototype.dtype)
    cupy.nonzero, cupy.argsort, cupy.float32 = _nonzero, _argsort, np.float32
    cupy.clip = lambda a, a_min, a_max: a.clip(a_min, a_max)
    cupy.from_dlpack = lambda array: _new(np.from_dlpack(array.host))
    cupy.may_share_memory = lambda a, b: np.may_share_memory(a.host, b.host)
    cupy.linalg = types.SimpleNamespace(norm=_norm)
    for name in ("max", "min", "all", "any"):
        setattr(cupy, name, _extreme(name))
    for name in ("argmax", "argmin"):
        setattr(cupy, name, _position(name))
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda: streams[current[-1]],
        UnownedMemory=lambda address, size, owner: (address, size, owner),
        MemoryPointer=lambda memory, offset: (memory, offset),
        runtime=errors,
    )

    def of_numpy(name):
        if name not in FUNCTIONS:
            raise AttributeError(f"this name is not known to be in CuPy: {name}")
        return lambda *args, **kwargs: _called(name, *args, **kwargs)

    cupy.__getattr__ = of_numpy
    return cupy


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in as the module cupy, kernels run by the emulator."""
    stand_in = module()
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.delitem(sys.modules, "fastconv.cuda.transfer", raising=False)
    monkeypatch.setattr(runtime, "_cuda", lambda operator: runtime.emulator("plain"))
    monkeypatch.setattr(runtime, "_architecture", lambda index: 90)
    log.clear()
    with contextlib.ExitStack() as stack:
        stack.callback(sys.modules.pop, "fastconv.cuda.transfer", None)
        yield stand_in
