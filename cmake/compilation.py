"""One run of CMake that compiles every extension of a build; imported by setup.py."""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from toolchain import program

ROOT = Path(__file__).resolve().parent.parent


def configure_arguments(nvcc, archs, kinds, headers, output, environ=os.environ):
    """What cmake is called with to configure the build.

    Args:
        nvcc: The Nvcc that compiles fastconv._cuda, or None to leave it out.
        archs: What it compiles for.
        kinds: Builds of fastconv._emulated: any of plain, asan and trace.
        headers: Folders of the headers of CUDA that those include.
        output: Folder that extensions are put in.
        environ: The environment.
    """
    import pybind11

    yield from ("-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}")
    yield f"-DFASTCONV_CUDA={'ON' if nvcc else 'OFF'}"
    yield f"-DFASTCONV_EMULATOR={';'.join(kinds)}"
    if nvcc:
        yield f"-DCMAKE_CUDA_COMPILER={nvcc.path}"
        yield f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(archs)}"
    if kinds:
        yield f"-DCUDA_INCLUDE={';'.join(map(str, headers))}"
    yield f"-DPython_EXECUTABLE={sys.executable}"
    yield f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"
    ninja = program("ninja")
    if ninja:  # by its path: the one that an earlier build environment had is gone by now
        yield from ("-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}")
    cache = shutil.which("ccache") or shutil.which("sccache")
    for language in ("CXX", "CUDA") if nvcc else ("CXX",):
        if cache and f"CMAKE_{language}_COMPILER_LAUNCHER" not in environ:
            yield f"-DCMAKE_{language}_COMPILER_LAUNCHER={cache}"


def compiler_environment(nvcc, environ=os.environ):
    """The environment that compilers run in."""
    changed = {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1", **environ}  # hits in every clone
    libraries = nvcc.path.resolve().parents[1] / "lib" if nvcc else None
    if libraries and (libraries / "libcudart_static.a").exists() and not libraries.with_name("lib64").exists():
        # pip's toolkit keeps its libraries in lib/, and its nvcc looks for them in lib64/.
        changed["LIBRARY_PATH"] = os.pathsep.join(filter(None, (str(libraries), environ.get("LIBRARY_PATH", ""))))
    return changed


def compile_extensions(nvcc, archs, kinds, headers):
    """Run CMake in a build tree below build/, kept between builds so that only what changed is compiled.

    Args:
        nvcc, archs, kinds, headers: As for configure_arguments().

    Returns:
        The folder that the extensions are in.

    Raises:
        SystemExit: Configuring or compiling failed.
    """
    # CMake cannot change the compiler or the generator of a build tree: each pair has a tree of its own.
    key = hashlib.sha256(f"{nvcc and nvcc.path} {program('ninja') is None}".encode()).hexdigest()[:8]
    tree = ROOT / "build" / f"cmake-{key}"
    arguments = list(configure_arguments(nvcc, archs, kinds, headers, tree / "lib"))
    jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    cmake = program("cmake")
    run = functools.partial(subprocess.run, check=True, env=compiler_environment(nvcc))
    start = time.monotonic()
    try:
        run([cmake, "-S", ROOT, "-B", tree, *arguments])
        run([cmake, "--build", tree, "--parallel", jobs])
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"fastconv: {failure(nvcc)}") from error
    print(f"fastconv: the extensions took {time.monotonic() - start:.0f} s to compile, {jobs} files at once")
    return tree / "lib"


def failure(nvcc):
    """What to say and to do when CMake fails."""
    if nvcc:
        return (
            f"{nvcc} was found, but the extensions did not build with it: see the messages above."
            " Set FASTCONV_CUDA=off to install fastconv without CUDA."
        )
    return "the emulated extension did not build: see the messages above. FASTCONV_EMULATOR=off leaves it out."
