"""docs/tutorial.md does what it says: its Python runs, its commands make sense."""

import re
import shlex
from pathlib import Path

import pytest

import bench.__main__
import examples.digits.__main__
import fastconv
import fastconv.cli

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "tutorial.md").read_text(encoding="utf-8")
PARSERS = {
    "bench": bench.__main__.parser,
    "examples.digits": examples.digits.__main__.parser,
    "fastconv": fastconv.cli._parser,
}


def blocks(language):
    """(line in the file, source) of every block of a language."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        yield TEXT[: found.start(1)].count("\n"), found[1]


def commands():
    return [line for _, source in blocks("sh") for line in source.splitlines()]


def test_the_python_of_the_tutorial_runs_from_top_to_bottom(capsys):
    threads = fastconv.get_num_threads()
    names = {}
    try:
        for line, source in blocks("python"):
            exec(compile("\n" * line + source, "docs/tutorial.md", "exec"), names)  # the line shows in a traceback
    finally:
        fastconv.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "conv2d: weight: got float64, expected float32" in printed
    assert "of new images right" in printed


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_tutorial_are_accepted(command):
    python, dash_m, module, *words = shlex.split(command)
    assert (python, dash_m) == ("python", "-m")
    PARSERS[module]().parse_args(words)


def test_the_tutorial_has_something_to_test():
    assert len(list(blocks("python"))) >= 8
    assert {shlex.split(command)[2] for command in commands()} == set(PARSERS)
