"""The page that says what is here of PyTorch is true."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_the_page_of_coverage_is_current():
    torch = pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("coverage_page", ROOT / "docs" / "coverage.py")
    coverage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(coverage)
    written = coverage.PAGE.read_text(encoding="utf-8")
    version = torch.__version__.split("+")[0]
    if f"PyTorch {version}." not in written:
        pytest.skip(f"the page was made with another PyTorch than {version}")
    assert written == coverage.page(), "python docs/coverage.py writes it anew"
