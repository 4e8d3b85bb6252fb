"""The libraries that are timed on a GPU: fastconv on CuPy arrays, and PyTorch."""

import numpy

from bench.agreement import dtype_of
from bench.clocks import EventClock
from bench.engines import FastconvEngine, TorchEngine, wide_dtype

_FLUSHED = 512 << 20  # bytes, several times the second-level cache of any GPU
_PRODUCT = 4096
_TRIALS = 5
_LAYOUTS = ("channels_first", "channels_last")


class CudaEngine(FastconvEngine):
    """fastconv on CuPy arrays of the first GPU."""

    def __init__(self):
        import cupy

        super().__init__("cuda")
        self._cupy = cupy
        block = cupy.empty(_FLUSHED, "uint8")
        stream = cupy.cuda.get_current_stream()

        def flush():
            block.data.memset_async(0, _FLUSHED, stream)  # no elementwise kernel, which CuPy would have to compile

        self.clock = EventClock(cupy.cuda.Event, cupy.cuda.get_elapsed_time, flush, stream.synchronize)

    def products(self, dtype):
        """Matrix products that show what this machine can do, and the operations of each."""
        from fastconv import cuda

        a, b = (self._moved(v) for v in _matrices(dtype))
        return [lambda: cuda.matmul(a, b)], 2 * _PRODUCT**3

    def _array(self, name, values, case):
        return self._moved(super()._array(name, values, case))

    def _moved(self, array):
        from fastconv.cuda.transfer import as_stored

        return as_stored(array)

    def _host(self, array):
        return array.get()


class TorchCudaEngine(TorchEngine):
    """PyTorch on the first GPU: cuDNN's choice of algorithms, IEEE float32, and whichever memory format is quicker."""

    def __init__(self):
        super().__init__()
        torch = self._torch
        if not torch.cuda.is_available():
            raise ImportError("this PyTorch finds no GPU")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # ours computes in IEEE float32
        block = torch.empty(_FLUSHED, dtype=torch.uint8, device="cuda")

        def event():
            return torch.cuda.Event(enable_timing=True)

        def milliseconds(start, end):
            return start.elapsed_time(end)

        self.clock = EventClock(event, milliseconds, block.zero_, torch.cuda.synchronize)

    def prepare(self, case):
        """The Job of a case, in the memory format that it is quicker in."""
        jobs = [super(TorchCudaEngine, self).prepare(case._replace(layout=layout)) for layout in _LAYOUTS]
        return min(jobs, key=self._trial)

    def products(self, dtype):
        """Matrix products that show what this machine can do, and the operations of each."""
        a, b = (self._torch.from_numpy(v).to("cuda", getattr(self._torch, dtype)) for v in _matrices(wide_dtype(dtype)))
        return [lambda: self._torch.matmul(a, b)], 2 * _PRODUCT**3

    def _trial(self, job):
        for _ in range(_TRIALS):
            job.call()  # cuDNN tries its algorithms
        return self.clock.seconds(job.call, _TRIALS)

    def _placed(self, tensor):
        return tensor.to("cuda")

    def _host(self, tensor):
        return tensor.cpu()


def _matrices(dtype):
    rng = numpy.random.default_rng(0)
    return [rng.standard_normal((_PRODUCT, _PRODUCT), dtype="float32").astype(dtype_of(dtype)) for _ in range(2)]
