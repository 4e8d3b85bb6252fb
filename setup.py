"""Build of fastconv: Python alone, or with the CUDA extension fastconv._cuda where an nvcc is found.

Environment variables:

    FASTCONV_CUDA        auto     build the extension if an nvcc is found (the default)
                         on       build it, and fail where there is no nvcc
                         off      do not look for an nvcc
                         wheels   build it with the nvcc that pip installs, in the build environment alone
    FASTCONV_CUDA_ARCHS  architectures in CMake's names, such as "90a-real;90-virtual", or "release"
    MAX_JOBS             how many files to compile at once; by default one a core

An nvcc that is found and fails stops the installation: going on without CUDA would hide the reason.
"""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
MODES = ("auto", "on", "off", "wheels")
OLDEST_NVCC = (12, 0)  # the first that knows sm_90a

# 90-virtual is PTX for what is newer than Hopper: 90a machine code runs on Hopper alone.
DEVELOPER_ARCHS = ("80-real", "90a-real", "90-virtual")
RELEASE_ARCHS = ("75-real", "80-real", "86-real", "89-real", "90a-real", "90-virtual")
BLACKWELL_ARCHS = ("100f-real", "120")
BLACKWELL_NVCC, BLACKWELL_CMAKE = (12, 9), (4, 0)  # these know "f", code for a family of GPUs; CMake 3.25 does not

BUILD_TOOLS = ("cmake>=3.24", "ninja")
CUDA_WHEELS = "cuda-toolkit[nvcc,cudart,cccl]==13.0.*"  # CUDA 12 has no nvcc in its wheels


class Nvcc(NamedTuple):
    """A CUDA compiler that runs."""

    path: Path
    version: tuple  # (13, 0, 88)
    place: str  # where it was found, in words that fit on every machine

    def __str__(self):
        return f"nvcc {dotted(self.version)} ({self.place})"


class Plan(NamedTuple):
    """What this build will do."""

    cuda: bool
    reason: str
    requires: tuple = ()  # for pip to install into the build environment


def make_plan(mode, nvcc, missing):
    """Decide whether to build the extension.

    Args:
        mode: Value of FASTCONV_CUDA.
        nvcc: The Nvcc that was found, or None.
        missing: Why there is none.

    Raises:
        SystemExit: mode is unknown, or needs an nvcc that is not there.
    """
    if mode not in MODES:
        raise SystemExit(f"fastconv: FASTCONV_CUDA={mode} is none of {', '.join(MODES)}")
    if mode == "off":
        return Plan(False, "switched off by FASTCONV_CUDA=off")
    if mode == "wheels":
        fetched = () if nvcc else (CUDA_WHEELS,)
        return Plan(True, "built with the nvcc that pip installs", BUILD_TOOLS + fetched)
    if nvcc:
        return Plan(True, f"built with {nvcc}", BUILD_TOOLS)
    if mode == "on":
        raise SystemExit(
            f"fastconv: FASTCONV_CUDA=on, but there is {missing}. Install the CUDA toolkit, or use"
            " FASTCONV_CUDA=wheels (pip brings nvcc) or FASTCONV_CUDA=off (no CUDA)."
        )
    return Plan(False, missing)


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
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations if package else ():
        for toolkit in sorted(Path(folder).glob("cu[0-9]*"), reverse=True):
            yield "pip's cuda-toolkit", toolkit / "bin" / "nvcc"


def nvcc_version(path):
    """(13, 0, 88), or () where the program does not say."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return numbers(re.search(r"\bV(\d+\.\d+\.\d+)", text))


def cmake_version():
    """(3, 25, 1) of the CMake on PATH.

    Raises:
        SystemExit: There is none.
    """
    if shutil.which("cmake") is None:
        raise SystemExit("fastconv: the CUDA extension needs CMake; pip install cmake ninja, or set FASTCONV_CUDA=off")
    text = subprocess.run(["cmake", "--version"], capture_output=True, text=True, check=True).stdout
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


def configure_arguments(nvcc, archs, output, environ=os.environ):
    """What cmake is called with to configure the build."""
    import pybind11

    yield from ("-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}")
    yield f"-DCMAKE_CUDA_COMPILER={nvcc.path}"
    yield f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(archs)}"
    yield f"-DPython_EXECUTABLE={sys.executable}"
    yield f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"
    ninja = shutil.which("ninja")
    if ninja:  # by its path: the one that an earlier build environment had is gone by now
        yield from ("-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}")
    cache = shutil.which("ccache") or shutil.which("sccache")
    for language in ("CXX", "CUDA"):
        if cache and f"CMAKE_{language}_COMPILER_LAUNCHER" not in environ:
            yield f"-DCMAKE_{language}_COMPILER_LAUNCHER={cache}"


def compiler_environment(nvcc, environ=os.environ):
    """The environment that nvcc links in."""
    libraries = nvcc.path.resolve().parents[1] / "lib"
    if not (libraries / "libcudart_static.a").exists() or libraries.with_name("lib64").exists():
        return dict(environ)
    # pip's toolkit keeps its libraries in lib/, and its nvcc looks for them in lib64/.
    paths = [str(libraries), environ.get("LIBRARY_PATH", "")]
    return {**environ, "LIBRARY_PATH": os.pathsep.join(filter(None, paths))}


def compile_extension(nvcc, archs, output, scratch):
    """Run CMake.

    Args:
        nvcc: The Nvcc to compile with.
        archs: What to compile for.
        output: Folder that the extension is put in.
        scratch: Folder for build trees, kept between builds.

    Raises:
        SystemExit: Configuring or compiling failed.
    """
    arguments = list(configure_arguments(nvcc, archs, output))
    # CMake cannot change the compiler or the generator of a build tree: each pair has a tree of its own.
    key = hashlib.sha256(f"{nvcc.path} {'-GNinja' in arguments}".encode()).hexdigest()[:8]
    tree = Path(scratch).resolve() / f"cmake-{key}"
    jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    run = functools.partial(subprocess.run, check=True, env=compiler_environment(nvcc))
    try:
        run(["cmake", "-S", HERE, "-B", tree, *arguments])
        run(["cmake", "--build", tree, "--parallel", jobs])
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"fastconv: {nvcc} was found, but the CUDA extension did not build with it: see the messages above."
            " Set FASTCONV_CUDA=off to install fastconv without CUDA."
        ) from error


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
    """Where a command puts the package: beside the sources in an editable install."""
    return HERE / "fastconv" if command.editable_mode else Path(command.build_lib, "fastconv")


def commands(mode, plan):
    """The two commands of setuptools that know of CUDA."""

    class BuildPy(build_py):
        def run(self):
            super().run()
            if plan.cuda:
                return  # BuildExt writes the note, once there is an extension
            package = package_folder(self)
            for stale in (*package.glob("_cuda*.so"), *package.glob("_cuda*.pyd")):
                stale.unlink()  # of an earlier build with CUDA: the note would contradict it
            write_build_info(package, False, plan.reason)

    class BuildExt(build_ext):
        def build_extension(self, ext):
            nvcc, missing = find_nvcc(mode)  # again: in a build environment that pip has filled by now
            if nvcc is None:
                raise SystemExit(f"fastconv: {missing}")
            archs = architectures(os.environ.get("FASTCONV_CUDA_ARCHS"), nvcc.version, cmake_version())
            target = Path(self.get_ext_fullpath(ext.name)).resolve()
            compile_extension(nvcc, archs, target.parent, self.build_temp)
            if not target.exists():
                raise SystemExit(f"fastconv: CMake did not make {target.name}")
            self.note = (f"built with {nvcc}", dotted(nvcc.version), archs)

        def run(self):
            super().run()
            write_build_info(package_folder(self), True, *self.note)

    return {"build_py": BuildPy, "build_ext": BuildExt}


def main():
    mode = (os.environ.get("FASTCONV_CUDA") or "auto").lower()
    plan = make_plan(mode, *find_nvcc(mode))
    setup(
        setup_requires=plan.requires,
        ext_modules=[Extension("fastconv._cuda", sources=[])] if plan.cuda else [],
        cmdclass=commands(mode, plan),
    )


if __name__ == "__main__":
    main()
