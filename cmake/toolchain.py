"""What this machine has for compiling: nvcc, the headers of CUDA, CMake; imported by setup.py."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OLDEST_NVCC = (12, 0)  # the first that knows sm_90a

# 90-virtual is PTX for what is newer than Hopper: 90a machine code runs on Hopper alone.
DEVELOPER_ARCHS = ("80-real", "90a-real", "90-virtual")
# Nothing older than 8.0, the first with cp.async and with as much shared memory as depthwise tiles take.
RELEASE_ARCHS = ("80-real", "86-real", "89-real", "90a-real", "90-virtual")
BLACKWELL_ARCHS = ("100f-real", "120")
BLACKWELL_NVCC, BLACKWELL_CMAKE = (12, 9), (4, 0)  # these know "f", code for a family of GPUs; CMake 3.25 does not

# What kernels include when g++ compiles them, each from another wheel: cudart, cudart, crt, cccl.
HEADERS = ("cuda_runtime.h", "cuda_fp16.h", "crt/host_defines.h", "nv/target")


class Nvcc(NamedTuple):
    """A CUDA compiler that runs."""

    path: Path
    version: tuple  # (13, 0, 88)
    place: str  # where it was found, in words that fit on every machine

    def __str__(self):
        return f"nvcc {dotted(self.version)} ({self.place})"


def find_nvcc(mode, environ=os.environ):
    """Look for an nvcc that runs and is new enough.

    Returns:
        The first such Nvcc, or None; and why there is none.
    """
    if mode == "off":
        return None, ""
    too_old = []
    for place, path in nvcc_places(mode, environ):
        if not os.access(path, os.X_OK):
            continue
        version = nvcc_version(path)
        if version >= OLDEST_NVCC:
            return Nvcc(path, version, place), ""
        too_old.append(f"the one of {place} is {dotted(version) if version else 'of unknown version'}")
    looked = ", ".join(dict.fromkeys(place for place, _ in nvcc_places(mode, environ)))
    old = f" ({'; '.join(too_old)})" if too_old else ""
    return None, f"no nvcc of CUDA {dotted(OLDEST_NVCC)} or newer{old}; looked in: {looked or 'no place at all'}"


def nvcc_places(mode, environ=os.environ):
    """(place, path) of every nvcc there may be, the one that the user names first."""
    if mode != "wheels":
        if "CUDACXX" in environ:
            yield "CUDACXX", Path(environ["CUDACXX"])
        for variable in ("CUDA_HOME", "CUDA_PATH"):
            if variable in environ:
                yield variable, Path(environ[variable], "bin", "nvcc")
        yield "PATH", Path(shutil.which("nvcc", path=environ.get("PATH")) or "nvcc-is-not-on-PATH")
        yield "/usr/local/cuda", Path("/usr/local/cuda/bin/nvcc")
    for toolkit in wheel_toolkits():
        yield "pip's cuda-toolkit", toolkit / "bin" / "nvcc"


def wheel_toolkits():
    """Folders that NVIDIA's wheels were put in, the newest CUDA first."""
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations if package else ():
        yield from sorted(Path(folder).glob("cu[0-9]*"), reverse=True)


def find_headers(environ=os.environ):
    """Folders to search for the headers of CUDA, those of the toolkit that nvcc_places() names first.

    Returns:
        A tuple of one or two folders, or None where no place has all of HEADERS.
    """
    nvccs = (path.resolve() for _, path in nvcc_places("auto", environ))  # the one of PATH can be a link
    for include in (*(path.parents[1] / "include" for path in nvccs), *(t / "include" for t in wheel_toolkits())):
        folders = (include, include / "cccl")  # where CUDA 13 keeps nv/
        if all(any((folder / name).exists() for folder in folders) for name in HEADERS):
            return folders if folders[1].exists() else folders[:1]
    return None


def nvcc_version(path):
    """(13, 0, 88), or () where the program does not say."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return numbers(re.search(r"\bV(\d+\.\d+\.\d+)", text))


def program(name):
    """Path of a tool on PATH or beside this Python, where an environment that is not activated has it, or None."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def cmake_version():
    """(3, 25, 1) of the CMake that program() finds.

    Raises:
        SystemExit: There is none.
    """
    cmake = program("cmake")
    if cmake is None:
        raise SystemExit("fastconv: an extension needs CMake; pip install cmake ninja, or set FASTCONV_CUDA=off")
    text = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout
    return numbers(re.search(r"(\d+\.\d+\.\d+)", text))


def numbers(match):
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def dotted(version):
    return ".".join(str(part) for part in version)


def architectures(wanted, nvcc, cmake):
    """The architectures to compile for, in CMake's names.

    Args:
        wanted: Value of FASTCONV_CUDA_ARCHS, or None.
        nvcc, cmake: Their versions.

    Raises:
        SystemExit: wanted is no list of architectures.
    """
    if not wanted:
        return DEVELOPER_ARCHS
    if wanted == "release":
        new_enough = nvcc >= BLACKWELL_NVCC and cmake >= BLACKWELL_CMAKE
        return RELEASE_ARCHS + (BLACKWELL_ARCHS if new_enough else ())
    names = tuple(re.split(r"[;,\s]+", wanted.strip()))
    for name in names:
        if not re.fullmatch(r"\d+[af]?(-real|-virtual)?|native|all|all-major", name):
            raise SystemExit(
                f"fastconv: FASTCONV_CUDA_ARCHS: {name!r} is no architecture; expected names such as"
                ' "90a-real;90-virtual", or "release"'
            )
    return names
