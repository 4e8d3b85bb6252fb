"""Which engine times a library."""

from bench.engines import FastconvEngine, TorchEngine
from bench.engines_cuda import CudaEngine, TorchCudaEngine
from bench.network_jobs import OnnxRuntimeEngine


def engine(name):
    """The engine of a name: "torch", "torch-cuda", "onnxruntime", or a backend of fastconv.

    Raises:
        ImportError: The library is not installed, or finds no GPU.
    """
    known = {
        "cuda": CudaEngine,
        "onnxruntime": OnnxRuntimeEngine,
        "torch": TorchEngine,
        "torch-cuda": TorchCudaEngine,
    }
    return known[name]() if name in known else FastconvEngine(name)
