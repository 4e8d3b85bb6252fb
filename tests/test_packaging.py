"""setup.py: what it decides for each FASTCONV_CUDA and FASTCONV_EMULATOR, and one real wheel without either."""

import ast
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastconv import config
from fastconv._version import __version__

ROOT = Path(__file__).resolve().parent.parent
MISSING = "no nvcc of CUDA 12.0 or newer; looked in: PATH"


@pytest.fixture(scope="module")
def build():
    """setup.py as a module: nothing is built, since it is not run as a script."""
    spec = importlib.util.spec_from_file_location("fastconv_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.fixture
def toolchain(build):
    return build.toolchain


@pytest.fixture
def compilation(build):
    return build.compilation


@pytest.fixture
def nvcc(toolchain):
    return toolchain.Nvcc(Path("/toolkit/bin/nvcc"), (13, 0, 88), "PATH")


def fake_nvcc(folder, version="13.0.88", body=""):
    """A program that answers --version as nvcc does."""
    path = folder / "bin" / "nvcc"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V{version}'\n{body}\n")
    path.chmod(0o755)
    return path


def environment(tmp_path, **variables):
    """Variables of a machine with nothing on PATH."""
    return {"PATH": str(tmp_path / "empty"), **variables}


@pytest.fixture
def bare_machine(toolchain, monkeypatch):
    """No toolkit in /usr/local and none from pip, whatever this machine has."""
    places = toolchain.nvcc_places

    def elsewhere(mode, environ):
        return [(place, path) for place, path in places(mode, environ) if place in ("CUDACXX", "CUDA_HOME", "PATH")]

    monkeypatch.setattr(toolchain, "nvcc_places", elsewhere)
    monkeypatch.setattr(toolchain, "wheel_toolkits", lambda: ())


def test_auto_builds_where_nvcc_is_found(build, nvcc):
    plan = build.make_plan("auto", nvcc, "")
    assert plan.cuda
    assert plan.reason == "built with nvcc 13.0.88 (PATH)"
    assert plan.requires == build.BUILD_TOOLS


def test_auto_without_nvcc_builds_python_alone_and_says_why(build):
    assert build.make_plan("auto", None, MISSING) == build.Plan(False, MISSING)


def test_on_without_nvcc_is_an_error_that_names_the_ways_out(build, nvcc):
    assert build.make_plan("on", nvcc, "").cuda
    with pytest.raises(SystemExit, match=r"FASTCONV_CUDA=on, but there is no nvcc.*=wheels.*=off"):
        build.make_plan("on", None, MISSING)


def test_off_does_not_even_look(build, toolchain, monkeypatch):
    monkeypatch.setattr(toolchain, "nvcc_places", lambda *_: pytest.fail("looked for nvcc"))
    plan = build.make_plan("off", *toolchain.find_nvcc("off", {}))
    assert plan == build.Plan(False, "switched off by FASTCONV_CUDA=off")


def test_wheels_asks_pip_for_nvcc_unless_it_is_there(build, nvcc):
    assert build.make_plan("wheels", None, MISSING).requires == (*build.BUILD_TOOLS, build.CUDA_WHEELS)
    assert build.make_plan("wheels", nvcc, "").requires == build.BUILD_TOOLS


def test_an_unknown_mode_is_an_error(build):
    with pytest.raises(SystemExit, match="FASTCONV_CUDA=yes is none of auto, on, off, wheels"):
        build.make_plan("yes", None, MISSING)


def test_the_emulated_extension_is_left_out_unless_it_is_asked_for(build):
    assert build.emulator_kinds(None) == build.emulator_kinds("off") == ()
    assert build.emulator_kinds("on") == ("plain",)
    assert build.emulator_kinds("trace, PLAIN,on") == ("trace", "plain")
    with pytest.raises(SystemExit, match="FASTCONV_EMULATOR=on,fast: 'fast' is none of on, off, plain, asan, trace"):
        build.emulator_kinds("on,fast")


def test_the_emulated_extension_needs_headers_and_no_nvcc(build):
    there = build.make_plan("off", None, "", ("plain", "asan"), headers=("/include",))
    assert (there.cuda, there.extensions) == (False, ("_emulated", "_emulated_asan"))
    assert there.requires == build.BUILD_TOOLS
    bare = build.make_plan("auto", None, MISSING, ("plain",))
    assert bare.requires == (*build.BUILD_TOOLS, build.HEADER_WHEELS)
    wheels = build.make_plan("wheels", None, MISSING, ("trace",))
    assert wheels.extensions == ("_cuda", "_emulated_trace")
    assert wheels.requires == (*build.BUILD_TOOLS, build.CUDA_WHEELS), "which bring the headers too"


def test_headers_are_found_beside_nvcc_and_only_where_all_of_them_are(toolchain, tmp_path, bare_machine):
    environ = environment(tmp_path, CUDA_HOME=str(tmp_path))
    for name in toolchain.HEADERS:
        assert toolchain.find_headers(environ) is None
        header = tmp_path / "include" / ("cccl" if name.startswith("nv/") else "") / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    assert toolchain.find_headers(environ) == (tmp_path / "include", tmp_path / "include" / "cccl")


def test_what_an_earlier_build_left_does_not_get_into_a_wheel(build, tmp_path):
    for name in ("_cuda", *build.EMULATORS.values()):
        tmp_path.joinpath(f"{name}.cpython-311-x86_64-linux-gnu.so").touch()
    plan = build.Plan(False, "", ("plain",))

    def stale(editable):
        return {path.name.partition(".")[0] for path in build.stale_extensions(tmp_path, plan, editable)}

    assert stale(editable=False) == {"_cuda", "_emulated_asan", "_emulated_trace"}
    assert stale(editable=True) == {"_cuda"}, "beside the sources the tests want to find the emulated ones"


def test_the_nvcc_that_the_user_names_comes_first(toolchain, tmp_path):
    chosen, other = fake_nvcc(tmp_path / "a"), fake_nvcc(tmp_path / "b")
    environ = environment(tmp_path, CUDACXX=str(chosen), CUDA_HOME=str(other.parents[1]))
    assert toolchain.find_nvcc("auto", environ) == (toolchain.Nvcc(chosen, (13, 0, 88), "CUDACXX"), "")
    del environ["CUDACXX"]
    assert toolchain.find_nvcc("auto", environ)[0].path == other


def test_nvcc_is_found_on_path(toolchain, tmp_path, bare_machine):
    nvcc = fake_nvcc(tmp_path)
    found, _ = toolchain.find_nvcc("auto", {"PATH": str(nvcc.parent)})
    assert (found.path, found.place) == (nvcc, "PATH")


def test_a_machine_without_nvcc_is_told_where_it_was_looked_for(toolchain, tmp_path, bare_machine):
    found, why = toolchain.find_nvcc("auto", environment(tmp_path, CUDA_HOME=str(tmp_path)))
    assert found is None
    assert why == "no nvcc of CUDA 12.0 or newer; looked in: CUDA_HOME, PATH"


@pytest.mark.parametrize(("version", "words"), [("11.8.89", "is 11.8.89"), ("?", "is of unknown version")])
def test_an_nvcc_that_is_too_old_or_does_not_say_is_passed_over(toolchain, tmp_path, bare_machine, version, words):
    environ = environment(tmp_path, CUDACXX=str(fake_nvcc(tmp_path, version)))
    found, why = toolchain.find_nvcc("auto", environ)
    assert found is None
    assert f"(the one of CUDACXX {words})" in why


def test_wheels_ignores_the_toolkit_of_the_machine(toolchain, tmp_path):
    environ = environment(tmp_path, CUDACXX=str(fake_nvcc(tmp_path)))
    assert "CUDACXX" not in [place for place, _ in toolchain.nvcc_places("wheels", environ)]


@pytest.mark.parametrize(
    ("wanted", "nvcc", "cmake", "expected"),
    [
        (None, (13, 0, 88), (3, 25, 1), ("80-real", "90a-real", "90-virtual")),
        ("90a", (13, 0, 88), (3, 25, 1), ("90a",)),
        ("80-real;90a-real, 120", (13, 0, 88), (4, 4, 4), ("80-real", "90a-real", "120")),
    ],
)
def test_architectures(toolchain, wanted, nvcc, cmake, expected):
    assert toolchain.architectures(wanted, nvcc, cmake) == expected


def test_release_architectures_add_blackwell_where_the_tools_know_it(toolchain):
    assert (
        toolchain.architectures("release", (13, 0, 88), (4, 4, 4))
        == toolchain.RELEASE_ARCHS + toolchain.BLACKWELL_ARCHS
    )
    assert toolchain.architectures("release", (13, 0, 88), (3, 25, 1)) == toolchain.RELEASE_ARCHS
    assert toolchain.architectures("release", (12, 4, 0), (4, 4, 4)) == toolchain.RELEASE_ARCHS


def test_what_is_no_architecture_is_an_error(toolchain):
    with pytest.raises(SystemExit, match="'hopper' is no architecture"):
        toolchain.architectures("90a;hopper", (13, 0, 88), (4, 4, 4))


def test_a_compiler_cache_is_used_unless_the_user_chose_one(compilation, nvcc, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, **_: {"sccache": "/bin/sccache"}.get(name))
    arguments = list(
        compilation.configure_arguments(nvcc, ("90a",), (), None, "/out", {"CMAKE_CUDA_COMPILER_LAUNCHER": "mine"})
    )
    assert [a for a in arguments if "LAUNCHER" in a] == ["-DCMAKE_CXX_COMPILER_LAUNCHER=/bin/sccache"]
    assert not any("ninja" in a.lower() for a in arguments)


def test_the_emulated_extension_alone_does_not_ask_for_a_cuda_compiler(compilation):
    arguments = list(compilation.configure_arguments(None, (), ("plain", "trace"), ("/a", "/b"), "/out", {}))
    assert {"-DFASTCONV_CUDA=OFF", "-DFASTCONV_EMULATOR=plain;trace", "-DCUDA_INCLUDE=/a;/b"} <= set(arguments)
    assert not any("CMAKE_CUDA" in a for a in arguments)


def test_ninja_is_used_when_found(compilation, nvcc, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, **_: {"ninja": "/bin/ninja"}.get(name))
    arguments = list(compilation.configure_arguments(nvcc, ("80-real", "90a"), (), None, "/out", {}))
    assert arguments[-2:] == ["-GNinja", "-DCMAKE_MAKE_PROGRAM=/bin/ninja"]
    assert "-DCMAKE_CUDA_ARCHITECTURES=80-real;90a" in arguments


def test_the_libraries_of_the_toolkit_wheels_are_put_on_the_path_of_the_linker(toolchain, compilation, tmp_path):
    nvcc = toolchain.Nvcc(fake_nvcc(tmp_path), (13, 0, 88), "pip's cuda-toolkit")
    assert "LIBRARY_PATH" not in compilation.compiler_environment(nvcc, {"A": "b"})
    library = tmp_path / "lib" / "libcudart_static.a"
    library.parent.mkdir()
    library.touch()
    changed = compilation.compiler_environment(nvcc, {"LIBRARY_PATH": "/mine"})
    assert changed["LIBRARY_PATH"] == f"{library.parent}{os.pathsep}/mine"
    (tmp_path / "lib64").mkdir()
    assert "LIBRARY_PATH" not in compilation.compiler_environment(nvcc, {})


def test_an_nvcc_that_fails_stops_the_build_and_names_the_way_out(compilation, nvcc, tmp_path, monkeypatch):
    def failing(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(SystemExit, match=r"nvcc 13.0.88 \(PATH\) was found.*Set FASTCONV_CUDA=off"):
        compilation.compile_extensions(nvcc, ("90a",), (), None)


def test_the_note_of_the_build_is_python_that_config_can_read(build, tmp_path):
    build.write_build_info(tmp_path, True, "built with nvcc 13.0.88 (pip's toolkit)", "13.0.88", ("80-real",))
    assert note(tmp_path.joinpath("_build_info.py").read_text()) == {
        "CUDA": True,
        "REASON": "built with nvcc 13.0.88 (pip's toolkit)",
        "NVCC": "13.0.88",
        "ARCHITECTURES": ("80-real",),
    }


def note(text):
    """The assignments of a _build_info.py."""
    statements = [s for s in ast.parse(text).body if isinstance(s, ast.Assign)]
    return {s.targets[0].id: ast.literal_eval(s.value) for s in statements}


def test_a_build_without_cuda_is_a_pure_wheel_that_says_why(tmp_path):
    tree = tmp_path / "tree"  # a copy: setuptools builds beside the sources
    hidden = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info", "_build_info.py", "*.so")
    shutil.copytree(ROOT, tree, ignore=hidden)
    tree.joinpath("fastconv", "_emulated.cpython-311-x86_64-linux-gnu.so").touch()  # as `make test` leaves it
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    variables = {**os.environ, "FASTCONV_CUDA": "off", "FASTCONV_EMULATOR": "off"}
    run = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"fastconv-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        said = note(archive.read("fastconv/_build_info.py").decode())
    assert said["CUDA"] is False
    assert said["REASON"] == "switched off by FASTCONV_CUDA=off"
    assert not [n for n in names if "_emulated." in n]
    assert {n.partition("/")[0].partition("-")[0] for n in names} == {"fastconv"}, "only the package goes into a wheel"
    shipped = {n for n in names if n.endswith(".py")} - {"fastconv/_build_info.py"}
    assert shipped == {p.relative_to(tree).as_posix() for p in (tree / "fastconv").rglob("*.py")} - {
        "fastconv/_build_info.py"
    }


def test_facts_of_sources_that_were_never_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastconv._build_info", None)
    build = config.facts()["build"]
    assert build["cuda"] is None
    assert "never installed" in build["reason"]


def printed():
    """What show_config() prints, as a dict from the first column to the second."""
    out = io.StringIO()
    config.show_config(out)
    rows = (line.partition("  ") for line in out.getvalue().splitlines())
    return {name: text.strip() for name, _, text in rows}


def test_a_build_without_cuda_says_why_when_asked(monkeypatch):
    info = SimpleNamespace(CUDA=False, REASON=MISSING, NVCC="", ARCHITECTURES=())
    monkeypatch.setitem(sys.modules, "fastconv._build_info", info)
    assert printed()["CUDA extension"] == f"no: {MISSING}"


class TwoGpus:
    """The extension on a machine with two GPUs, the second too old for the build."""

    def runtime_version(self):
        return SimpleNamespace(status=0, value=13000)

    def driver_version(self):
        return SimpleNamespace(status=0, value=13020)

    def device_count(self):
        return SimpleNamespace(status=0, value=2)

    def device(self, index):
        return SimpleNamespace(status=0, name=("H100", "V100")[index], major=(9, 7)[index], minor=0)

    def probe(self, index):
        return (0, 209)[index]

    def status_text(self, status):
        return {209: "cudaErrorNoKernelImageForDevice: no kernel image"}[status]


@pytest.fixture
def two_gpus(monkeypatch):
    archs = ("90a-real", "90-virtual")
    info = SimpleNamespace(CUDA=True, REASON="built with nvcc 13.0.88 (PATH)", NVCC="13.0.88", ARCHITECTURES=archs)
    monkeypatch.setitem(sys.modules, "fastconv._build_info", info)
    monkeypatch.setitem(sys.modules, "fastconv._cuda", TwoGpus())


def test_each_gpu_is_described_with_what_keeps_the_build_from_running_there(two_gpus):
    gpu = config.facts()["gpu"]
    assert (gpu["runtime"], gpu["driver"], gpu["problem"]) == ("13.0", "13.2", None)
    assert [d["problem"] for d in gpu["devices"]] == [None, "cudaErrorNoKernelImageForDevice: no kernel image"]
    rows = printed()
    assert rows["CUDA extension"] == "built with nvcc 13.0.88 (PATH), for 90a-real 90-virtual"
    assert rows["GPU 0"] == "H100, compute capability 9.0, runs this build"
    assert rows["GPU 1"].endswith("7.0, no: cudaErrorNoKernelImageForDevice: no kernel image")


def test_a_machine_without_a_driver_says_so(two_gpus, monkeypatch):
    monkeypatch.setattr(TwoGpus, "driver_version", lambda _: SimpleNamespace(status=0, value=0))
    monkeypatch.setattr(TwoGpus, "device_count", lambda _: SimpleNamespace(status=35, value=0))
    monkeypatch.setattr(TwoGpus, "status_text", lambda *_: "cudaErrorInsufficientDriver")
    rows = printed()
    assert rows["CUDA"] == "runtime 13.0, driver not found"
    assert rows["GPU"] == (
        "no: cudaErrorInsufficientDriver; install NVIDIA's driver for CUDA 13.0, or use NumPy arrays, which need none"
    )


def test_a_driver_that_is_too_old_is_told_from_other_trouble(two_gpus, monkeypatch):
    monkeypatch.setattr(TwoGpus, "device_count", lambda _: SimpleNamespace(status=35, value=0))
    monkeypatch.setattr(TwoGpus, "status_text", lambda *_: "trouble")
    assert config.facts()["gpu"]["problem"] == "trouble"  # the driver serves 13.2: it is not to blame
    monkeypatch.setattr(TwoGpus, "driver_version", lambda _: SimpleNamespace(status=0, value=12040))
    assert config.facts()["gpu"]["problem"] == (
        "trouble; the driver serves CUDA 12.4 and this build is of CUDA 13.0: install a newer driver, or build with a"
        " CUDA toolkit older than 13.0"
    )


def test_the_emulated_backend_can_be_used_where_its_extension_loads(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastconv._emulated", SimpleNamespace())
    assert config.facts()["backends"]["emulated"] is None
    monkeypatch.setitem(sys.modules, "fastconv._emulated", None)
    assert "FASTCONV_EMULATOR=on pip install -e ." in config.facts()["backends"]["emulated"]
