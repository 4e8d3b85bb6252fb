"""Which backend serves which arrays. A stand-in for CuPy lets a machine without one ask about arrays on a GPU."""

import sys
import threading
import types

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import backend
from fastconv.errors import DeviceError, ShapeError
from tests.cupy_stand_in import Device


class FakeCupyArray:
    """What fastconv asks of a CuPy array before it computes on it."""

    def __init__(self, *shape, device=0):
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype("float32")
        self.device = Device(device)


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=FakeCupyArray))
    return FakeCupyArray


X, W = np.ones((1, 2, 4, 4), "f4"), np.ones((3, 2, 3, 3), "f4")


def test_numpy_arrays_are_served_by_the_cpu():
    assert backend.of(X, None, W).name == "cpu"
    assert backend.namespace(None, X) is np


def test_cupy_arrays_are_served_by_cuda_alone(on_gpu, monkeypatch):
    assert backend.of(on_gpu(1, 2, 4, 4)).name == "cuda"
    monkeypatch.setattr(backend, "OPERATORS", ("conv_sideways",))
    with pytest.raises(NotImplementedError, match="the cuda backend has no operator conv_sideways"):
        backend.of(on_gpu(1, 2, 4, 4)).conv_sideways(None)


def test_arrays_on_different_devices_are_refused(on_gpu):
    with pytest.raises(DeviceError, match="cpu and cuda:0"):
        F.conv2d(X, on_gpu(3, 2, 3, 3))
    with pytest.raises(DeviceError, match="cuda:0 and cuda:1"):
        F.conv2d(on_gpu(1, 2, 4, 4), on_gpu(3, 2, 3, 3, device=1))


def test_a_chosen_backend_refuses_arrays_it_cannot_read(on_gpu):
    for name in ("cpu", "reference"):
        with fastconv.use_backend(name), pytest.raises(DeviceError, match=name):
            backend.of(on_gpu(1))
    with fastconv.use_backend("cuda"), pytest.raises(DeviceError, match="cuda"):
        backend.of(X)


def test_a_backend_that_does_not_exist_is_refused():
    with pytest.raises(ShapeError, match="use_backend: name: got 'gpu'"), fastconv.use_backend("gpu"):
        pass


def test_the_choice_holds_within_its_block_and_thread():
    seen = []
    with fastconv.use_backend("reference"):
        assert backend.of(X).name == "reference"
        with fastconv.use_backend("cpu"):
            assert backend.of(X).name == "cpu"
        other = threading.Thread(target=lambda: seen.append(backend.of(X).name))
        other.start()
        other.join()
        assert backend.of(X).name == "reference"
    assert (backend.of(X).name, seen) == ("cpu", ["cpu"])
