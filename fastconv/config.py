"""What this installation is and can do: facts() for programs, show_config() for people and bug reports.

Nothing here imports Numba, CuPy or PyTorch: what is installed is read from the packages' metadata, and
GPUs are asked for through the extension.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import sys

from fastconv._version import __version__
from fastconv.backend import NAMES

# Distributions that install each module: CuPy's name depends on the version of CUDA.
_DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "numba": ("numba",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    "ml_dtypes": ("ml_dtypes",),
    "torch": ("torch",),
    "onnx": ("onnx",),
}
_VARIABLES = ("FASTCONV_", "OMP_NUM_THREADS", "NUMBA_", "CUDA_VISIBLE_DEVICES", "CUPY_")
_VECTORS = (
    ("AVX512F", "AVX-512, 512 bits"),
    ("AVX2", "AVX2, 256 bits"),
    ("ASIMD", "NEON, 128 bits"),
    ("SSE2", "SSE2, 128 bits"),
)


def facts():
    """Everything about this installation that decides what fastconv can do here.

    Each GPU is asked to run an empty kernel, which starts CUDA on it.

    Returns:
        A dict of plain values, with the keys

        - fastconv, python, platform: str.
        - packages: module name -> version, or None where it is not installed.
        - backends: name -> None where it can be used, otherwise why not.
        - build: cuda (bool, or None where nothing was built), reason, nvcc, architectures.
        - gpu: driver and runtime (CUDA versions, or None), problem (or None), and devices, a list of
          dicts with name, compute_capability and problem (None where this build's kernels run).
        - cpu: name, vector, cores, threads (None until the first call), numba_cache (likewise).
        - environment: the variables that are set and read by fastconv or by what it stands on.
    """
    packages = {module: _installed(names) for module, names in _DISTRIBUTIONS.items()}
    build = _build()
    gpu = _gpu()
    return {
        "fastconv": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": packages,
        "backends": {name: _missing(name, packages, build, gpu) for name in NAMES},
        "build": build,
        "gpu": gpu,
        "cpu": _cpu(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
    }


def show_config(file=None):
    """Print facts() to be read, or to be pasted into a bug report.

    Args:
        file: Where to print; sys.stdout by default.
    """
    known = facts()
    rows = [
        ("fastconv", known["fastconv"]),
        ("python", f"{known['python']}, {known['platform']}"),
        *((module, version or "not installed") for module, version in known["packages"].items()),
        *((f"backend {name}", _or_problem("available", problem)) for name, problem in known["backends"].items()),
        *_cuda_rows(known["build"], known["gpu"]),
        *_cpu_rows(known["cpu"]),
        *known["environment"].items(),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}", file=file or sys.stdout)


def _or_problem(good, problem):
    return f"no: {problem}" if problem else good


def _cuda_rows(build, gpu):
    """The lines on CUDA: how the extension was built, and what it finds."""
    if not build["cuda"]:
        yield "CUDA extension", f"no: {build['reason']}"
        return
    yield "CUDA extension", f"{build['reason']}, for {' '.join(build['architectures'])}"
    yield "CUDA", f"runtime {gpu['runtime']}, driver {gpu['driver'] or 'not found'}"
    if gpu["problem"]:
        yield "GPU", f"no: {gpu['problem']}"
    for i, device in enumerate(gpu["devices"]):
        verdict = _or_problem("runs this build", device["problem"])
        yield f"GPU {i}", f"{device['name']}, compute capability {device['compute_capability']}, {verdict}"


def _cpu_rows(cpu):
    """The lines on the CPU."""
    yield "CPU", f"{cpu['name']}, {cpu['vector'] or 'unknown vectors'}"
    yield "threads", f"{cpu['threads'] or 'chosen at the first call on the CPU'}; {cpu['cores']} cores usable"
    yield "Numba cache", cpu["numba_cache"] or "not known before the first call on the CPU"


def _installed(distributions):
    """Version of the first of these distributions that is installed, or None."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _build():
    """What setup.py noted."""
    try:
        info = importlib.import_module("fastconv._build_info")
    except ImportError:
        reason = "running from sources that were never installed; pip install -e . builds the extension"
        return {"cuda": None, "reason": reason, "nvcc": None, "architectures": ()}
    return {
        "cuda": info.CUDA,
        "reason": info.REASON,
        "nvcc": info.NVCC or None,
        "architectures": info.ARCHITECTURES,
    }


def _gpu():
    """What the CUDA runtime inside the extension says of this machine."""
    found = {"driver": None, "runtime": None, "devices": [], "problem": None}
    try:
        cuda = importlib.import_module("fastconv._cuda")
    except ImportError as error:
        return {**found, "problem": f"the CUDA extension is not there: {error}"}
    found["runtime"] = _cuda_version(cuda.runtime_version())
    found["driver"] = _cuda_version(cuda.driver_version())
    count = cuda.device_count()
    if count.status:
        return {**found, "problem": f"{cuda.status_text(count.status)}{_driver_advice(found)}"}
    found["devices"] = [_device(cuda, index) for index in range(count.value)]
    return found


def _driver_advice(gpu):
    """What to do where there is no driver, or one older than this build; nothing where the driver is not to blame."""
    if gpu["driver"] is None:
        return f"; install NVIDIA's driver for CUDA {gpu['runtime']}, or use NumPy arrays, which need none"
    major = int(gpu["runtime"].partition(".")[0])
    if int(gpu["driver"].partition(".")[0]) < major:
        return (
            f"; the driver serves CUDA {gpu['driver']} and this build is of CUDA {gpu['runtime']}: install a newer"
            f" driver, or build with a CUDA toolkit older than {major}.0"
        )
    return ""


def _device(cuda, index):
    """One GPU; it has a problem where our kernels do not run on it."""
    device = cuda.device(index)
    status = device.status or cuda.probe(index)
    return {
        "name": device.name,
        "compute_capability": f"{device.major}.{device.minor}",
        "problem": cuda.status_text(status) if status else None,
    }


def _cuda_version(number):
    """13000 as "13.0"; None where there is none."""
    if number.status or not number.value:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _missing(backend, packages, build, gpu):
    """Why a backend cannot be used here, or None where it can."""
    spec = importlib.util.find_spec(f"fastconv.{backend}")
    if spec is None or spec.origin is None:
        return "not in this release"
    if backend == "cpu" and packages["numba"] is None:
        return "Numba is not installed"
    if backend == "emulated":
        return _missing_emulated()
    return _missing_cuda(packages, build, gpu) if backend == "cuda" else None


def _missing_emulated():
    try:
        importlib.import_module("fastconv._emulated")
    except ModuleNotFoundError:
        return (
            "its extension, for tests, is not built; FASTCONV_EMULATOR=on pip install -e . builds it, as make test does"
        )
    except ImportError as error:
        return f"its extension does not load: {error}"
    return None


def _missing_cuda(packages, build, gpu):
    if not build["cuda"]:
        return build["reason"]
    if packages["cupy"] is None:
        return "CuPy is not installed; pip install fastconv[cuda13]"
    problems = [device["problem"] for device in gpu["devices"]]
    if gpu["problem"] or not problems:
        return gpu["problem"] or "no GPU found"
    return None if None in problems else problems[0]


def _cpu():
    """The processor, and what the cpu backend has decided, if it was imported."""
    threads = sys.modules.get("fastconv.cpu.threads")
    jit = sys.modules.get("fastconv.cpu.jit")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "name": _cpu_name(),
        "vector": _vector(),
        "cores": len(cores),
        "threads": threads.get_num_threads() if threads else None,
        "numba_cache": jit.cache_folder() if jit else None,
    }


def _cpu_name():
    """The model that Linux reports; elsewhere what Python knows of it."""
    listing = pathlib.Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()


def _vector():
    """The widest vectors of this CPU as NumPy found them, or None."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:  # not a public name, only the one that numpy.show_runtime() prints from
        return None
    return next((words for feature, words in _VECTORS if features.get(feature)), None)
