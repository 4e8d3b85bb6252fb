"""Arrays that change place: Tensor.to, Module.to, and arrays of other libraries."""

import importlib
import types

import numpy as np
import pytest

import fastconv
from fastconv import nn
from fastconv.cases import operator_cases
from fastconv.cases.storage import EVERY_STORAGE, stored
from fastconv.check import check, examine
from fastconv.errors import DeviceError, DTypeError, ShapeError
from fastconv.transfer import device_index, place
from tests.cupy_stand_in import log, ndarray

X = np.arange(6, dtype="f4").reshape(2, 3)


@pytest.mark.parametrize("name, index", [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names_of_devices(name, index):
    assert device_index(name) == index


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "", "cuda 1"])
def test_other_names_are_refused(name):
    with pytest.raises(ShapeError, match="to: device"):
        place(X, name)
    with pytest.raises(DTypeError, match="to: device"):
        place(X, 0)


def test_what_is_there_already_is_not_copied(cupy):
    assert place(X, None) is X
    assert place(X, "cpu") is X
    there = place(X, "cuda")
    assert place(there, "cuda:0") is there


def test_without_cupy_a_gpu_is_refused():
    with pytest.raises(DeviceError, match=r"install CuPy.*fastconv\[cuda13\]"):
        fastconv.tensor(X).to("cuda")


def test_a_tensor_moves_there_and_its_gradient_back(cupy):
    x = fastconv.tensor(X, requires_grad=True)
    y = x.to("cuda:1")
    assert y.device == "cuda:1"
    (y * 2).sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), np.full_like(X, 2))
    back = y.detach().cpu()
    assert type(back.data) is np.ndarray
    np.testing.assert_array_equal(back.numpy(), X)
    assert y.detach().cpu().cuda().device == "cuda:0"


@pytest.mark.parametrize("array", [np.array(3.0, "f4"), np.zeros((0, 2), "f4"), X.astype(">f4"), X.T, X[::-1, ::2]])
def test_what_moves_keeps_its_shape_and_values(cupy, array):
    there = place(array, "cuda:1")
    assert (there.device.id, there.shape, there.dtype) == (1, array.shape, np.dtype("f4"))
    np.testing.assert_array_equal(there.get(), array)


def test_from_gpu_to_gpu_each_stream_waits_for_the_other(cupy):
    there = place(np.arange(24, dtype="f4").reshape(2, 3, 2, 2), "cuda:0").transpose(
        0, 2, 3, 1
    )  # in no order of memory
    log.clear()
    moved = place(there, "cuda:1")
    assert moved.device.id == 1
    assert log == [("event", 1000, 1001), ("event", 1001, 1000)]  # written before it is read, read before it is reused
    np.testing.assert_array_equal(moved.get(), there.get())


@pytest.mark.parametrize("storage", ["contiguous", "channels_last", "fortran"])
def test_the_memory_format_moves_too(cupy, storage):
    here = stored(np.arange(120, dtype="f4").reshape(2, 3, 4, 5), storage)
    there = place(here, "cuda")
    other = place(there, "cuda:1")
    back = place(other, "cpu")
    assert here.strides == there.strides == other.strides == back.strides
    np.testing.assert_array_equal(back, here)
    dense = place(stored(here, "every_second"), "cuda")
    assert dense.flags.c_contiguous


def test_a_module_moves_with_gradients_and_buffers(cupy):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    parameters = list(net.parameters())
    net(X).sum().backward()
    before = {key: value.copy() for key, value in net.state_dict().items()}
    assert net.to("cuda") is net
    assert [type(a) for a in net.state_dict().values()] == [ndarray] * 7
    assert all(a is b and a.grad.device == "cuda:0" for a, b in zip(parameters, net.parameters(), strict=True))
    net.cpu()
    for key, value in net.state_dict().items():
        assert type(value) is np.ndarray
        np.testing.assert_array_equal(value, before[key])


def test_arrays_on_two_devices_do_not_meet(cupy):
    with pytest.raises(DeviceError, match="cpu and cuda:0"):
        nn.Linear(3, 2).to("cuda")(X)


def test_numpy_arrays_and_host_memory_of_others_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    assert fastconv.asarray(X) is X
    theirs = torch.arange(4.0)
    ours = fastconv.asarray(theirs)
    theirs[0] = 7
    assert isinstance(ours, np.ndarray)
    assert ours[0] == 7
    with pytest.raises(DTypeError, match="detach"):
        fastconv.asarray(torch.ones(2, requires_grad=True))
    with pytest.raises(DTypeError, match="int16"):
        fastconv.asarray(torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "x", object()])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(DTypeError, match="asarray: value"):
        fastconv.asarray(value)


class OnGpu:
    """An array of another library, seen through DLPack."""

    def __init__(self, kind=2, device=0):
        self.host, self.where = X.copy(), (kind, device)

    def __dlpack__(self, stream=None):
        raise AssertionError("numpy asked")

    def __dlpack_device__(self):
        return self.where


def test_dlpack_is_left_to_cupy_which_orders_the_streams(cupy):
    theirs = OnGpu()
    ours = fastconv.asarray(theirs)
    assert isinstance(ours, ndarray)
    assert np.shares_memory(ours.host, theirs.host)
    with pytest.raises(DeviceError, match="DLPack device type 10"):
        fastconv.asarray(OnGpu(kind=10))


def interface(**other):
    """An array that has __cuda_array_interface__ only."""
    known = {"data": (4096, False), "typestr": "<f4", "shape": (2, 3), "version": 3, **other}
    return types.SimpleNamespace(__cuda_array_interface__=known)


@pytest.mark.parametrize(
    "stream, waits", [(None, []), (1, [("event", 0, 1000)]), (77, [("event", 77, 1000)]), (1000, [])]
)
def test_the_current_stream_waits_for_the_stream_of_the_interface(cupy, stream, waits):
    theirs = interface(stream=stream)
    ours = fastconv.asarray(theirs)
    assert (ours.shape, ours.dtype) == ((2, 3), np.dtype("f4"))
    (address, size, owner), _ = ours.memptr
    assert (address, size, owner) == (4096, 24, theirs)
    assert log == waits


def test_the_extent_of_strided_memory(cupy):
    ours = fastconv.asarray(interface(strides=(64, 8)))
    assert ours.memptr[0][:2] == (4096, 64 + 2 * 8 + 4)
    assert ours.walk == (64, 8)
    (low, size, _), offset = fastconv.asarray(interface(strides=(-64, 8))).memptr
    assert (low, size, offset) == (4096 - 64, 64 + 2 * 8 + 4, 64)
    assert fastconv.asarray(interface(shape=(0, 3))).memptr[0][1] == 0
    assert fastconv.asarray(interface(shape=(0, 3), data=(0, False))).memptr is None


def test_interfaces_that_would_be_misread_are_refused(cupy):
    with pytest.raises(DTypeError, match="mask"):
        fastconv.asarray(interface(mask=interface()))
    with pytest.raises(DTypeError, match="byte order"):
        fastconv.asarray(interface(typestr=">f4"))


def test_a_gpu_that_is_not_there_is_a_device_error(cupy, monkeypatch):
    def refuse(*_):
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    monkeypatch.setattr(cupy.cuda, "Device", refuse)
    with pytest.raises(DeviceError, match=r"cuda:5.*invalid device ordinal.*fastconv info"):
        fastconv.tensor(X).to("cuda:5")


@pytest.mark.parametrize("storage", ["contiguous", "channels_last", *EVERY_STORAGE])
def test_copies_keep_the_strides_that_a_case_asks_for(cupy, storage):
    as_stored = importlib.import_module("fastconv.cuda.transfer").as_stored
    host = stored(np.arange(120, dtype="f4").reshape(2, 3, 4, 5), storage)
    there = as_stored(host)
    assert isinstance(there, ndarray)
    assert there.dtype.isnative
    assert there.strides == host.strides
    assert not np.shares_memory(there.host, host)
    np.testing.assert_array_equal(there.get(), host)


def test_the_self_check_runs_on_arrays_of_a_gpu(cupy):
    report = check("emulated", "max_pool_forward", quick=True)
    cases = [c for c in operator_cases() if c.operator == "max_pool_forward" and c.quick]
    assert report.cases == len(cases)
    assert [examine("cuda", case)[1] for case in cases[::3]] == [None] * len(cases[::3])
