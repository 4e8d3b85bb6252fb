"""Where kernels run: on CuPy arrays by the extension _cuda, on NumPy arrays by its twin _emulated.

    with launch("conv_forward", x, w) as gpu:
        y = gpu.empty(shape, x.dtype, last)
        gpu.extension.conv_forward(gpu.dtype(x), gpu.read(x), gpu.read(w), gpu.write(y), ..., gpu.stream)

Within the block the arrays' device is current; a launch that is refused leaves it as a CudaError.
"""

import contextlib
import functools
import importlib
import os

import numpy

from fastconv.arrays import is_cupy
from fastconv.cuda.workspace import get_max_workspace
from fastconv.errors import CudaError, DeviceError, ShapeError

_LARGEST = 2**31 - 1


class Launch:
    """One call of an operator; a context manager.

    Args:
        operator: Its name, for messages.
        array: An array on the device that it runs on.

    Attributes:
        namespace: numpy or cupy.
        extension: The compiled extension that holds the kernels.
        stream: Handle of the stream to enqueue on.
        architecture: Compute capability as a number, such as 90.
    """

    def empty(self, shape, dtype, last=False):
        """A new array, unwritten.

        Args:
            shape: Its shape.
            dtype: Its dtype; of another byte order than the machine's, the native one.
            last: For [N, C, *size], whether C is innermost in memory.
        """
        dtype = dtype.newbyteorder("=")
        if not last:
            return self._allocated(shape, dtype)
        memory = self._allocated((shape[0], *shape[2:], shape[1]), dtype)
        return self.namespace.moveaxis(memory, -1, 1)

    def workspace(self, shape, dtype):
        """A new array for partial results; fits max_workspace, or it should not have been asked for."""
        array = self._allocated(shape, numpy.dtype(dtype))
        if array.nbytes > get_max_workspace():
            raise AssertionError(f"{array.nbytes} bytes of workspace exceed the limit {get_max_workspace()}")
        return array

    def dtype(self, array):
        """The dtype of an array as the extension numbers it."""
        return getattr(self.extension.Dtype, array.dtype.name)

    def format(self, last):
        """The memory format as the extension numbers it."""
        return self.extension.Format.channels_last if last else self.extension.Format.channels_first

    def activation(self, name):
        """The activation of an epilogue as the extension numbers it; None for none."""
        return getattr(self.extension.Activation, name or "none")

    def window(self, window):
        """A fastconv.window.Window as the extension's own.

        Raises:
            ShapeError: A padded axis has more positions than kernels can number.
        """
        return _compiled_window(self.extension, window)

    def __exit__(self, kind, error, traceback):
        if kind is not None and issubclass(kind, self.extension.LaunchError):
            raise CudaError(self.operator, "launch", str(error), "a kernel that runs") from error


class CudaLaunch(Launch):
    """A call on CuPy arrays."""

    def __init__(self, operator, array):
        import cupy

        self.operator, self.namespace = operator, cupy
        self.extension = _cuda(operator)
        self._device = array.device
        self.architecture = _architecture(self._device.id)

    def __enter__(self):
        self._device.__enter__()
        self.stream = self.namespace.cuda.get_current_stream().ptr
        return self

    def __exit__(self, kind, error, traceback):
        self._device.__exit__(kind, error, traceback)
        super().__exit__(kind, error, traceback)

    def read(self, array):
        """Address of an array that kernels read, 0 for None."""
        return 0 if array is None else array.data.ptr

    write = read

    def _allocated(self, shape, dtype):
        return self.namespace.empty(shape, dtype)


class EmulatedLaunch(Launch):
    """A call on NumPy arrays: the emulator knows exactly what kernels may read and write."""

    namespace, stream, architecture = numpy, 0, 90

    def __init__(self, operator, array):
        self.operator = operator
        self.extension = emulator(_emulator_kind())
        self._registered = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        for address in self._registered:
            self.extension.forget_buffer(address)
        super().__exit__(kind, error, traceback)

    def read(self, array):
        """Address of an array that kernels read, 0 for None."""
        return self._known(array, initialised=True)

    def write(self, array):
        """Address of an array that kernels write before they read it, 0 for None."""
        return self._known(array, initialised=False)

    def _known(self, array, initialised):
        if array is None:
            return 0
        low, high = numpy.lib.array_utils.byte_bounds(array)
        if high > low and array.size:
            name = f"{self.operator} {'argument' if initialised else 'result'} {list(array.shape)}"
            self.extension.register_buffer(low, high - low, name, initialised)
            self._registered.append(low)
        return array.ctypes.data

    def _allocated(self, shape, dtype):
        array = numpy.empty(shape, dtype)
        array.reshape(-1).view(numpy.uint8).fill(0xFF)  # NaN in every dtype: an element that is never written shows
        return array


def launch(operator, *arrays):
    """The Launch for a call on these arrays, of which None is passed over; all live on one device.

    Raises:
        DeviceError: The extension is not there, or its CUDA runtime finds no driver that serves it.
    """
    first = next(a for a in arrays if a is not None)
    return (CudaLaunch if is_cupy(first) else EmulatedLaunch)(operator, first)


@functools.cache
def emulator(kind):
    """The extension that runs kernels on the CPU.

    Args:
        kind: "plain", "asan" or "trace".

    Raises:
        DeviceError: It was not built.
    """
    name = "_emulated" if kind == "plain" else f"_emulated_{kind}"
    try:
        return importlib.import_module(f"fastconv.{name}")
    except ImportError as error:
        fix = "build it: FASTCONV_EMULATOR=on pip install -e ."
        raise DeviceError("fastconv", "backend", "emulated", f"the extension fastconv.{name}", fix) from error


@contextlib.contextmanager
def schedule(order, async_mode, seed, reverse_blocks):
    """Within the block, the emulator runs threads in another order; results must be the same bits in every one.

    Args:
        order: "forward", "reverse", "random" or "lockstep".
        async_mode: When asynchronous copies take effect: "late", at the wait for them, or "early", at once.
        seed: Of the random order.
        reverse_blocks: Whether blocks run last to first.

    Raises:
        DeviceError: The emulator was not built.
    """
    extension = emulator(_emulator_kind())
    extension.set_schedule(order, async_mode, seed, reverse_blocks)
    try:
        yield
    finally:
        extension.set_schedule("forward", "late", 1, False)


def _emulator_kind():
    return os.environ.get("FASTCONV_EMULATED", "plain")


@functools.cache
def _cuda(operator):
    """The extension for GPUs, once it is known to find a driver."""
    try:
        extension = importlib.import_module("fastconv._cuda")
    except ImportError as error:
        fix = f"{_why_not_built()}; build it: FASTCONV_CUDA=on pip install ."
        raise DeviceError(operator, "arrays", "a CuPy array", "an installation with the CUDA extension", fix) from error
    found = extension.device_count()
    if found.status:
        expected = f"a driver for CUDA {extension.runtime_version().value // 1000}, which this build was made with"
        fix = "update the driver, or build fastconv with the CUDA toolkit that the driver serves"
        raise DeviceError(operator, "arrays", extension.status_text(found.status), expected, fix)
    return extension


def _why_not_built():
    try:
        return importlib.import_module("fastconv._build_info").REASON
    except ImportError:
        return "running from sources that were never installed"


@functools.cache
def _architecture(index):
    """Compute capability of a GPU as a number; asked once, as it never changes."""
    device = importlib.import_module("fastconv._cuda").device(index)
    return 10 * device.major + device.minor


@functools.lru_cache(maxsize=4096)
def _compiled_window(extension, window):
    w = window.three_axes()
    for axis in range(3):
        positions = w.size[axis] + sum(w.padding[axis])
        if positions > _LARGEST:
            raise ShapeError(window.operator, "padding", positions, f"at most {_LARGEST} padded positions on an axis")
    before = tuple(pair[0] for pair in w.padding)
    return extension.Window(
        w.batch, w.channels, w.filters, w.groups, w.size, w.kernel, w.stride, w.dilation, before, w.output
    )
