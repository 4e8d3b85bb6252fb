"""Each primitive of csrc/device against NumPy: on the emulator, and on a GPU where there is one.

csrc/device/primitives.cu holds a small kernel around each; here are their inputs and results.
"""

import importlib
import re

import numpy
import pytest

from tests.emulation import SCHEDULES, require

THREADS = 128
TILED = {2: (5, 16), 3: (4, 5, 16), 4: (3, 4, 5, 16), 5: (2, 3, 4, 5, 16)}  # tensors of tma_<rank>
TILED_BOX, TILED_CORNER = (2, 2, 3, 4, 8), (-1, 2, 2, -1, 12)
HOPPER = ("barrier", "tma_", "wgmma_")  # beginnings of names
EPS = 2.0**-23


class Emulated:
    """Runs primitives on the emulator, each array registered."""

    def __init__(self, kind):
        require(kind)
        self.extension = importlib.import_module("fastconv._emulated" + ("" if kind == "plain" else f"_{kind}"))

    def run(self, name, inputs, output):
        arrays = [*inputs, output]
        for array in arrays:
            self.extension.register_buffer(array.ctypes.data, array.nbytes, name, array is not output)
        try:
            self.extension.run_primitive(name, [x.ctypes.data for x in inputs], output.ctypes.data, 0)
        finally:
            for array in arrays:
                self.extension.forget_buffer(array.ctypes.data)
        return output


class Gpu:
    """Runs primitives on the first GPU."""

    def __init__(self):
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
        self.extension = pytest.importorskip("fastconv._cuda", reason="fastconv was built without CUDA")
        if self.extension.device_count().status != 0:
            pytest.skip("this machine has no GPU that CUDA can use")
        self.cupy, self.major = cupy, self.extension.device(0).major

    def run(self, name, inputs, output):
        if self.major != 9 and name.startswith(HOPPER):
            pytest.skip("these instructions are compute capability 9.0's")
        inputs, result = [self.cupy.asarray(x) for x in inputs], self.cupy.asarray(output)
        stream = self.cupy.cuda.get_current_stream()
        self.extension.run_primitive(name, [x.data.ptr for x in inputs], result.data.ptr, stream.ptr)
        return result.get()


@pytest.fixture(params=["plain", "trace", "gpu"], scope="module")
def machine(request):
    return Gpu() if request.param == "gpu" else Emulated(request.param)


def run(machine, name, inputs, shape, dtype):
    """The output of a primitive; NaN where it was not written, and on the emulator the same in every schedule."""

    def fresh():
        output = numpy.empty(shape, dtype)
        output.reshape(-1).view(numpy.uint8).fill(0xFF)
        return output

    inputs = [numpy.ascontiguousarray(x) for x in inputs]
    result = machine.run(name, inputs, fresh())
    if isinstance(machine, Emulated):
        for schedule in SCHEDULES[1:]:
            machine.extension.set_schedule(*schedule)
            try:
                assert machine.run(name, inputs, fresh()).tobytes() == result.tobytes(), schedule
            finally:
                machine.extension.set_schedule(*SCHEDULES[0])
    return result


def values(*shape, seed=1):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)


def halves(dtype, *shape, seed=1):
    """Random elements of a 16-bit dtype, and the same in float64."""
    x = values(*shape, seed=seed)
    if dtype == "float16":
        x = x.astype(numpy.float16)
        return x, x.astype(numpy.float64)
    bits = x.view(numpy.uint32) & 0xFFFF0000  # bfloat16 is the upper half of a float32
    return (bits >> 16).astype(numpy.uint16), bits.view(numpy.float32).astype(numpy.float64)


def close(got, a, b):
    """Whether got is a @ b up to the rounding of float32 sums, in the order of whichever hardware."""
    bound = 4 * a.shape[1] * EPS * (abs(a) @ abs(b))
    return bool((abs(got - a @ b) <= bound).all())


def test_no_primitive_is_left_out():
    extension = Emulated("plain").extension
    tried = {"vector", "reduce", "mma", "copy_async", "barrier", "tma", "tma_swizzle", "tma_im2col", "wgmma"}
    assert {re.sub(r"_(b?float|tf)?\d+.*", "", name) for name in extension.primitives()} == tried
    with pytest.raises(extension.DispatchError, match="nonsense"):
        extension.run_primitive("nonsense", [], 0, 0)


def test_vector(machine):
    x = numpy.random.default_rng(1).integers(0, 256, 31 * THREADS, numpy.uint8)
    assert (run(machine, "vector", [x], x.shape, x.dtype) == x).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nan", [False, True])
def test_reduce(machine, dtype, nan):
    x = values(THREADS).astype(dtype)
    if nan:
        x[37] = numpy.nan
    got = run(machine, f"reduce_{dtype}", [x], (7, THREADS), dtype)
    kinds = (numpy.sum, 32), (numpy.max, 32), (numpy.min, 32), (numpy.sum, 8)
    blocks = (numpy.sum, THREADS), (numpy.max, THREADS), (numpy.min, THREADS)
    for row, (reduce, lanes) in zip(got, kinds + blocks, strict=True):
        expected = reduce(x.reshape(-1, lanes).astype(numpy.float64), axis=1).repeat(lanes)
        tolerance = 8 * numpy.finfo(dtype).eps * lanes if reduce is numpy.sum else 0
        numpy.testing.assert_allclose(row, expected, rtol=0, atol=tolerance)
        assert len({value.tobytes() for value in row[:lanes]}) == 1, "lanes disagree"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mma(machine, dtype):
    a, wide_a = halves(dtype, 16, 16)
    b, wide_b = halves(dtype, 8, 16, seed=2)
    got = run(machine, f"mma_{dtype}", [a, b, b.T], (2, 16, 8), numpy.float32)
    assert close(got[0], wide_a, wide_b.T)
    assert (got[0] == got[1]).all()


def test_mma_tf32(machine):
    a, b = values(16, 8), values(8, 8, seed=2)
    a[3, 5], b[2, 2] = numpy.float32(1 + 2.0**-11), numpy.float32(-1 - 2.0**-11)  # ties
    got = run(machine, "mma_tf32", [a, b], (2, 16, 8), numpy.float32)

    def rounded(x):
        return ((x.view(numpy.uint32) + 0x1000) & 0xFFFFE000).view(numpy.float32).astype(numpy.float64)

    assert (got[1] == rounded(a)).all()
    assert close(got[0], rounded(a), rounded(b))


@pytest.mark.parametrize("width", [4, 8, 16])
def test_copy_async(machine, width):
    x = numpy.random.default_rng(1).integers(1, 256, (2, THREADS, width), numpy.uint8)
    valid = numpy.arange(width) < numpy.arange(THREADS)[:, None] % (width + 1)
    assert (run(machine, f"copy_async_{width}", [x], x.shape, x.dtype) == numpy.where(valid, x, 0)).all()


def test_barrier(machine):
    x = values(6, 32)
    got = run(machine, "barrier", [x], (6, 3, 32), numpy.float32)
    assert (got == x[:, None, ::-1] * numpy.arange(1, 4, dtype=numpy.float32)[:, None]).all()


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_tma(machine, rank):
    x = values(*TILED[rank])
    box, corner = TILED_BOX[5 - rank :], TILED_CORNER[5 - rank :]
    margin = 16
    padded = numpy.pad(x, margin)
    expected = padded[tuple(slice(margin + c, margin + c + b) for c, b in zip(corner, box, strict=True))]
    assert (run(machine, f"tma_{rank}", [x], box, numpy.float32) == expected).all()


@pytest.mark.parametrize("span", [32, 64, 128])
def test_tma_swizzle(machine, span):
    x = values(16, 32)
    got = run(machine, f"tma_swizzle_{span}", [x], (16 * span // 16, 4), numpy.float32)
    chunks = x[:, : span // 4].reshape(-1, 4)
    at = numpy.arange(len(chunks)) * 16  # bytes; bits 4 to 6 change by those from 7 on
    moved = at ^ (at >> 3 & (span - 16))
    assert (got[moved // 16] == chunks).all()


@pytest.mark.parametrize("rank", [4, 5])
def test_tma_im2col(machine, rank):
    size, padding, stride, dilation, pixels = (4, 5, 6)[5 - rank :], 2, 2, 2, 32
    x = values(2, *size, 8).astype(numpy.float16)
    padded = numpy.pad(x, [(0, 0), *[(padding, padding + 8)] * len(size), (0, 0)])
    outputs = [(s + 2 * padding - 2 * dilation - 1) // stride + 1 for s in size]
    positions = [(n, *p) for n in range(2) for p in numpy.ndindex(*outputs)][1:]
    expected = numpy.zeros((3 ** len(size), pixels, 8), numpy.float16)
    for tap in range(3 ** len(size)):
        offset = [tap // 3**i % 3 * dilation for i in reversed(range(len(size)))]
        for row, (n, *p) in enumerate(positions[:pixels]):
            expected[tap, row] = padded[(n, *(a * stride + o for a, o in zip(p, offset, strict=True)))]
    got = run(machine, f"tma_im2col_{rank}", [x], expected.shape, numpy.float16)
    assert (got == expected).all()


@pytest.mark.parametrize(
    "dtype, n", [("float16", 64), ("float16", 128), ("float16", 256), ("bfloat16", 64), ("bfloat16", 256)]
)
def test_wgmma(machine, dtype, n):
    a, wide_a = halves(dtype, 64, 64)
    b, wide_b = halves(dtype, n, 64, seed=2)
    got = run(machine, f"wgmma_{n}_{dtype}", [a, b], (64, n), numpy.float32)
    assert close(got, wide_a, wide_b.T)
