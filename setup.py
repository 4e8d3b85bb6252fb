"""Build of fastconv: Python alone, or with the CUDA extension fastconv._cuda where an nvcc is found.

Environment variables:

    FASTCONV_CUDA        auto     build the extension if an nvcc is found (the default)
                         on       build it, and fail where there is no nvcc
                         off      do not look for an nvcc
                         wheels   build it with the nvcc that pip installs, in the build environment alone
    FASTCONV_CUDA_ARCHS  architectures in CMake's names, such as "90a-real;90-virtual", or "release"
    FASTCONV_EMULATOR    off      no kernels for the CPU (the default)
                         on       build fastconv._emulated: the same kernels by the C++ compiler, for tests without
                                  a GPU; needs no nvcc, only headers of CUDA, which pip fetches where there are none
                         plain,asan,trace
                                  any of its builds: the one of "on", one with sanitizers, one that traces memory
    MAX_JOBS             how many files to compile at once; by default one a core

An nvcc that is found and fails stops the installation: going on without CUDA would hide the reason.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "cmake"))  # build back ends do not even have our own folder on the path

import compilation  # noqa: E402
import toolchain  # noqa: E402

MODES = ("auto", "on", "off", "wheels")
EMULATORS = {"plain": "_emulated", "asan": "_emulated_asan", "trace": "_emulated_trace"}

BUILD_TOOLS = ("cmake>=3.24", "ninja")
CUDA_WHEELS = "cuda-toolkit[nvcc,cudart,cccl]==13.0.*"  # CUDA 12 has no nvcc in its wheels
HEADER_WHEELS = "cuda-toolkit[cudart,crt,cccl]==13.0.*"


class Plan(NamedTuple):
    """What this build will do."""

    cuda: bool
    reason: str  # why with or without CUDA
    kinds: tuple = ()  # builds of fastconv._emulated
    requires: tuple = ()  # for pip to install into the build environment

    @property
    def extensions(self):
        """Names of the modules to build."""
        return ("_cuda",) * self.cuda + tuple(EMULATORS[kind] for kind in self.kinds)


def make_plan(mode, nvcc, missing, kinds=(), headers=None):
    """Decide which extensions to build.

    Args:
        mode: Value of FASTCONV_CUDA.
        nvcc: The Nvcc that was found, or None.
        missing: Why there is none.
        kinds: Builds of the emulated extension that are wanted.
        headers: Folders of the headers of CUDA, or None.

    Raises:
        SystemExit: mode is unknown, or needs an nvcc that is not there.
    """
    if mode not in MODES:
        raise SystemExit(f"fastconv: FASTCONV_CUDA={mode} is none of {', '.join(MODES)}")
    if mode == "on" and nvcc is None:
        raise SystemExit(
            f"fastconv: FASTCONV_CUDA=on, but there is {missing}. Install the CUDA toolkit, or use"
            " FASTCONV_CUDA=wheels (pip brings nvcc) or FASTCONV_CUDA=off (no CUDA)."
        )
    cuda = mode == "wheels" or (mode != "off" and nvcc is not None)
    wheels = ()
    if mode == "wheels" and nvcc is None:
        wheels = (CUDA_WHEELS,)
    elif kinds and headers is None:
        wheels = (HEADER_WHEELS,)
    if mode == "off":
        reason = "switched off by FASTCONV_CUDA=off"
    elif mode == "wheels":
        reason = "built with the nvcc that pip installs"
    else:
        reason = f"built with {nvcc}" if nvcc else missing
    return Plan(cuda, reason, tuple(kinds), BUILD_TOOLS + wheels if cuda or kinds else ())


def emulator_kinds(value):
    """The builds of the emulated extension that FASTCONV_EMULATOR names.

    Raises:
        SystemExit: It names one that there is not.
    """
    words = [word.strip().lower() for word in (value or "off").split(",")]
    if words == ["off"]:
        return ()
    kinds = tuple(dict.fromkeys("plain" if word == "on" else word for word in words))
    unknown = [kind for kind in kinds if kind not in EMULATORS]
    if unknown:
        raise SystemExit(
            f"fastconv: FASTCONV_EMULATOR={value}: {unknown[0]!r} is none of on, off, {', '.join(EMULATORS)}"
        )
    return kinds


def write_build_info(package, cuda, reason, nvcc="", archs=()):
    """Leave a note of how this copy was built in _build_info.py: pip hides what a build prints."""
    lines = (
        '"""How this copy of fastconv was built; written by setup.py."""\n',
        f"CUDA = {cuda!r}",
        f"REASON = {reason!r}",
        f"NVCC = {nvcc!r}",
        f"ARCHITECTURES = {tuple(archs)!r}",
    )
    Path(package, "_build_info.py").write_text("\n".join(lines) + "\n", encoding="utf-8")


def package_folder(command):
    """Where a command puts the package: beside the sources in an editable install and with --inplace."""
    beside = command.editable_mode or getattr(command, "inplace", False)
    return HERE / "fastconv" if beside else Path(command.build_lib, "fastconv")


def stale_extensions(package, plan, editable):
    """Extensions of an earlier build that this one does not make anew.

    A folder that a wheel is packed from may hold none of them. Beside the sources the note would contradict a
    _cuda; the emulated ones are asked of nobody's note, and stay for the tests.
    """
    names = ("_cuda",) if editable else ("_cuda", *EMULATORS.values())
    for name in names:
        if name not in plan.extensions:
            yield from (*package.glob(f"{name}.*so"), *package.glob(f"{name}.*pyd"))


def commands(mode, plan):
    """The two commands of setuptools that know of compilers."""

    class BuildPy(build_py):
        def run(self):
            super().run()
            package = package_folder(self)
            for stale in stale_extensions(package, plan, self.editable_mode):
                stale.unlink()
            if not plan.cuda:  # otherwise BuildExt writes the note, once there is an extension
                write_build_info(package, False, plan.reason)

    class BuildExt(build_ext):
        def build_extensions(self):
            # Again: in a build environment that pip has filled by now.
            nvcc, missing = toolchain.find_nvcc(mode) if plan.cuda else (None, "")
            if plan.cuda and nvcc is None:
                raise SystemExit(f"fastconv: {missing}")
            headers = toolchain.find_headers()
            if plan.kinds and headers is None:
                raise SystemExit("fastconv: FASTCONV_EMULATOR needs the headers of CUDA: pip install " + HEADER_WHEELS)
            cmake = toolchain.cmake_version()
            wanted = os.environ.get("FASTCONV_CUDA_ARCHS")
            archs = toolchain.architectures(wanted, nvcc.version, cmake) if nvcc else ()
            built = compilation.compile_extensions(nvcc, archs, plan.kinds, headers)
            for extension in self.extensions:
                target = Path(self.get_ext_fullpath(extension.name))
                if not (built / target.name).exists():
                    raise SystemExit(f"fastconv: CMake did not make {target.name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(built / target.name, target)
            self.note = (f"built with {nvcc}", toolchain.dotted(nvcc.version), archs) if nvcc else None

        def run(self):
            super().run()
            if self.note:
                write_build_info(package_folder(self), True, *self.note)

    return {"build_py": BuildPy, "build_ext": BuildExt}


def main():
    mode = (os.environ.get("FASTCONV_CUDA") or "auto").lower()
    kinds = emulator_kinds(os.environ.get("FASTCONV_EMULATOR"))
    plan = make_plan(mode, *toolchain.find_nvcc(mode), kinds, toolchain.find_headers() if kinds else None)
    setup(
        setup_requires=plan.requires,
        ext_modules=[Extension(f"fastconv.{name}", sources=[]) for name in plan.extensions],
        cmdclass=commands(mode, plan),
    )


if __name__ == "__main__":
    main()
