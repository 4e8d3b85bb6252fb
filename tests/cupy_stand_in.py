"""A stand-in for CuPy where there is no GPU: arrays of NumPy's memory that say they live on one.

What it is for: everything between a public function and the extension, on arrays that are not NumPy's to fastconv,
with the emulator's extension in the place of the one for GPUs. It keeps a log of what would reach a GPU, and refuses
to wait for one.
"""

import contextlib
import ctypes
import sys
import types

import numpy as np
import pytest

from fastconv.cuda import runtime

current = [0]  # stack of device numbers
log = []  # (what, device)


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


class ndarray(np.ndarray):  # noqa: N801 -- CuPy's own name
    """An array that says it lives on a GPU: the one that was current when it was made."""

    def __new__(cls, shape, dtype=float, memptr=None, strides=None):
        if isinstance(memptr, Pointer):  # memory of another array
            bytes_ = f"|V{np.dtype(dtype).itemsize}"
            known = {"data": (memptr.ptr, False), "shape": shape, "typestr": bytes_, "strides": strides, "version": 3}
            view = types.SimpleNamespace(__array_interface__=known, owner=memptr.owner)
            return np.asarray(view).view(dtype).view(cls)
        array = np.ndarray.__new__(cls, shape, dtype)
        array.memptr, array.walk = memptr, strides
        return array

    def __array_finalize__(self, parent):
        self.index = parent.index if isinstance(parent, ndarray) else current[-1]

    @property
    def device(self):
        return Device(self.index)

    @property
    def data(self):
        return Pointer(self.ctypes.data, self)

    def get(self):
        log.append(("copy to host", self.index))
        return np.array(self, subok=False)

    def item(self, *index):
        log.append(("copy to host", self.index))
        return super().item(*index)

    def __reduce__(self):
        raise AssertionError("an array was pickled")


def _on_gpu(value):
    """value as an array of the current GPU; other things as they are."""
    if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, ndarray):
        return np.asarray(value).view(ndarray)
    return value


def _copied(value, dtype=None):
    """What cupy.asarray does: an array of this GPU as it is, anything else copied to it."""
    if isinstance(value, ndarray) and value.index == current[-1]:
        return value if dtype is None or value.dtype == dtype else value.astype(dtype)
    fresh = np.array(value, dtype, subok=False).view(ndarray)
    return fresh


def module():
    """The module that stands in for cupy."""
    cupy = types.ModuleType("cupy")
    errors = types.SimpleNamespace(CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}))
    cupy.ndarray, cupy.asarray, cupy.array = ndarray, _copied, _copied
    cupy.from_dlpack = lambda value: np.from_dlpack(value.host).view(ndarray)
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda: streams[current[-1]],
        UnownedMemory=lambda address, size, owner: (address, size, owner),
        MemoryPointer=lambda memory, offset: (memory, offset),
        runtime=errors,
    )

    def of_numpy(name):
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value
        return lambda *args, **kwargs: _tuple_on_gpu(value(*args, **kwargs))

    cupy.__getattr__ = of_numpy
    return cupy


def _tuple_on_gpu(value):
    return type(value)(map(_on_gpu, value)) if isinstance(value, (tuple, list)) else _on_gpu(value)


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
