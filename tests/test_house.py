"""The rules of the house: what may import what, one stem a family, what a public name must document."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import backend

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastconv"

# Each module or package directly under fastconv, and which others it may import. One way only: an entry names
# nothing that could lead back to it. "*" is for what sits on top of the library and is imported by nothing in it.
LEAVES = {"errors", "_version"}
BASE = LEAVES | {"arrays", "blocks", "boxes", "grid", "pool", "window", "resize", "special", "elementwise"}
OPERATORS = BASE | {"autograd", "backend", "random", "transfer", "functional"}
MAY_IMPORT = {
    "_version": set(),
    "errors": set(),
    "blocks": set(),
    "arrays": LEAVES,
    "boxes": LEAVES | {"arrays", "window"},
    "window": LEAVES | {"arrays"},
    "pool": LEAVES | {"arrays"},
    "resize": LEAVES | {"arrays", "window"},
    "grid": LEAVES | {"arrays"},
    "special": set(),
    "elementwise": {"special"},
    "autograd": LEAVES | {"arrays"},
    "backend": LEAVES | {"arrays"},
    "transfer": LEAVES | {"arrays"},
    "random": LEAVES | {"arrays"},
    "creation": LEAVES | {"arrays", "autograd", "random", "transfer"},
    "tolerance": BASE,
    "reference": BASE,
    "cpu": BASE,
    "cuda": BASE,
    "emulated": BASE | {"cuda"},
    "functional": OPERATORS - {"functional"},
    "nn": OPERATORS,
    "optim": OPERATORS - {"functional"} | {"cpu"},
    "ops": OPERATORS | {"nn"},
    "models": OPERATORS | {"nn"},
    "config": "*",
    "cases": "*",
    "check": "*",
    "cli": "*",
    "__main__": "*",
    "__init__": "*",
}
ON_TOP = {name for name, allowed in MAY_IMPORT.items() if allowed == "*"}

# Modules of others that only one part of the house may import, and which part.
RESERVED = {"cupy": "cuda", "numba": "cpu", "torch": "no part"}

# Files longer than this need a reason here.
LONGEST = 450
LONG_FILES = {"fastconv/functional/__init__.py": "one line for each public name, twice"}

# Operators of the contract whose family has another stem in fastconv/functional than in the backends.
FAMILY_STEMS = {"matmul": "linear"}

PUBLIC = ("fastconv", "fastconv.functional", "fastconv.nn", "fastconv.ops", "fastconv.optim")


def sources(*suffixes):
    """Every file of ours with one of these endings, build outputs and environments left out."""
    folders = ("fastconv", "csrc", "tests", "bench", "examples", "docs")
    files = [p for folder in folders for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    files += [p for p in sorted(ROOT.iterdir()) if p.is_file()]
    return [p for p in files if p.suffix in suffixes and p.name != "_build_info.py"]


def part_of(path):
    """Which entry of MAY_IMPORT a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Dotted names of everything that a file imports, wherever in the file it does."""
    inside = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(inside[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_files():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_build_info.py")


def test_every_part_of_the_package_has_its_import_rule():
    parts = {part_of(p) for p in package_files()}
    assert parts <= set(MAY_IMPORT), "add the new part to MAY_IMPORT, below whatever it may import"


def test_the_import_rules_run_one_way():
    def reachable(part, seen):
        for other in () if MAY_IMPORT[part] == "*" else MAY_IMPORT[part]:
            if other not in seen:
                seen.add(other)
                reachable(other, seen)
        return seen

    assert [part for part in MAY_IMPORT if part in reachable(part, set())] == []


def test_imports_follow_the_rules():
    broken = []
    for path in package_files():
        part = part_of(path)
        allowed = MAY_IMPORT[part]
        for name in imported(path):
            head, _, rest = name.partition(".")
            if head != "fastconv":
                continue
            target = rest.partition(".")[0]
            if target not in MAY_IMPORT:  # `from fastconv import something`: a name of the top-level module
                target = "__init__"
            fine = target == part or (allowed == "*" or target in allowed)
            if part not in ON_TOP and target in ON_TOP:
                fine = False
            if not fine:
                broken.append(f"{path.relative_to(ROOT)} imports {name}")
    assert broken == []


@pytest.mark.parametrize("module", RESERVED)
def test_reserved_modules_are_imported_in_one_place_only(module):
    importers = {part_of(p) for p in package_files() for name in imported(p) if name.partition(".")[0] == module}
    assert importers <= {RESERVED[module]}


def test_pybind11_is_included_by_the_bindings_only():
    includes = re.compile(r"#\s*include\s*[<\"](pybind11/|Python\.h)")
    files = [p for p in sources(".h", ".cuh", ".cu", ".cpp", ".inl") if includes.search(p.read_text(encoding="utf-8"))]
    assert [p.relative_to(ROOT).as_posix() for p in files] == ["csrc/bindings.cpp"]


def test_importing_fastconv_imports_nothing_heavy():
    code = "import sys, fastconv; print(*sorted({'numba', 'cupy', 'torch', 'scipy', 'matplotlib'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.split() == []


def test_describing_the_installation_imports_nothing_heavy():
    code = (
        "import io, sys, fastconv; fastconv.show_config(io.StringIO());"
        "print(*sorted({'numba', 'cupy', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.split() == []


def functional_stems():
    """Family of every public function: the file in fastconv/functional that defines it."""
    functional = importlib.import_module("fastconv.functional")
    return {name: getattr(functional, name).__module__.rpartition(".")[2] for name in functional.__all__}


def test_every_public_function_belongs_to_a_tested_family():
    untested = {
        f"{name} in functional/{stem}.py has no tests/test_{stem}.py"
        for name, stem in functional_stems().items()
        if not (ROOT / "tests" / f"test_{stem}.py").exists()
    }
    assert untested == set()


@pytest.mark.parametrize("operator", backend.OPERATORS)
def test_every_backend_operator_has_one_stem_throughout(operator):
    stems = {}
    for name in ("reference", "cpu"):
        function = getattr(importlib.import_module(f"fastconv.{name}"), operator)
        stems[name] = function.__module__.removeprefix(f"fastconv.{name}.")
    assert stems["reference"] == stems["cpu"]
    stem = FAMILY_STEMS.get(stems["cpu"], stems["cpu"])
    assert (PACKAGE / "functional" / f"{stem}.py").exists()
    assert (ROOT / "tests" / f"test_{stem}.py").exists()


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_backends_have_every_operator_of_the_contract(name):
    assert set(backend.signatures(name)) == set(backend.OPERATORS)


def test_backends_agree_on_signatures():
    assert backend.signatures("cpu") == backend.signatures("reference")


def public_objects():
    """(dotted name, object) of every function and class that the public modules export."""
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{module_name}.{name}", value


def parameters(function):
    """Names of what a caller passes."""
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # a class whose constructor is written in C, an exception for example
        return []
    return [n for n in names if n not in ("self", "args", "kwargs")]


def test_public_names_are_documented():
    array_names = {"input", "x", "other", "tensor", "tensors", "weight", "target", "gradient", "outputs"}
    lacking = []
    for name, value in public_objects():
        text = inspect.getdoc(value) or ""
        if not text:
            lacking.append(f"{name}: no docstring")
            continue
        takes = parameters(value)
        inherits = inspect.isclass(value) and "__init__" not in vars(value)  # its base says what it takes
        if takes and not inherits and "Args:" not in text:
            lacking.append(f"{name}: no Args")
        if inspect.isfunction(value):
            if "Returns:" not in text and returns_something(value):
                lacking.append(f"{name}: no Returns")
            if array_names & set(takes) and "Raises:" not in text:
                lacking.append(f"{name}: no Raises")
    assert not lacking, "; ".join(lacking)


def returns_something(function):
    """Whether the source holds a return with a value, or a yield."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(function))))
    values = (node.value for node in ast.walk(tree) if isinstance(node, (ast.Return, ast.Yield)))
    return any(value is not None for value in values)


def named_paths(text):
    """Paths in backquotes that start at a folder or file of the repository, without placeholders."""
    tops = {p.name for p in ROOT.iterdir()} | {"csrc", "fastconv", "tests", "bench", "docs", "examples"}
    for quoted in re.findall(r"`([^`\s]+)`", text) + re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        path = quoted.split("::")[0]
        if re.search(r"[<>*{}|=$]|\.\.\.|^https?:", path):
            continue
        head = path.partition("/")[0]
        at_root = re.fullmatch(r"[A-Z]+\.md|pyproject\.toml|setup\.py|CMakeLists\.txt|Makefile|LICENSE", path)
        if at_root or ("/" in path and head in tops - {"build", ".venv"}):
            yield path


@pytest.mark.parametrize("document", sources(".md"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_paths_named_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    missing = [p for p in named_paths(text) if not (ROOT / p).exists() and not (document.parent / p).exists()]
    assert missing == []


def test_files_are_short_enough_to_read():
    lengths = {
        p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines())
        for p in sources(".py", ".h", ".cuh", ".cu", ".cpp")
    }
    long = {path for path, length in lengths.items() if length > LONGEST}
    assert long == set(LONG_FILES), "split it along its families, or give the reason in LONG_FILES"


def test_the_version_has_one_source():
    literal = re.compile(r"^\s*(__version__|version)\s*=\s*[\"']", re.MULTILINE)
    files = [p for p in sources(".py", ".toml", ".cfg") if literal.search(p.read_text(encoding="utf-8"))]
    assert [p.relative_to(ROOT).as_posix() for p in files] == ["fastconv/_version.py"]
