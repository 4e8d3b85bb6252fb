"""The tables of README.md are made of committed results, and of nothing else."""

import json

import pytest

from bench import __main__ as command
from bench import readme
from fastconv.errors import ShapeError

MACHINE = {
    "cpu": "a CPU", "cores": 2, "threads": 2, "commit": "0123456789abcdef", "timestamp": "2026-01-02T03:04:05",
    "versions": {"numpy": "2.0", "torch": None},
}  # fmt: skip


def row_of_run(name, direction, layout, median, others=0.0):
    ratio = {"median": median, "first_quartile": median, "third_quartile": median}
    problem = {"name": name}
    samples = {"ours_seconds": [1.0, 2.0], "peer_seconds": [median, 2 * median]}
    return dict(problem=problem, direction=direction, layout=layout, ratio=ratio, others_cores=others, **samples)


RUN = {
    "suite": "resnet50", "machine": MACHINE, "rows": [
        row_of_run("a", "forward", "channels_first", 2.0), row_of_run("b", "forward", "channels_first", 0.5, 0.4),
        row_of_run("a", "weight_grad", "channels_last", 3.0),
    ],
}  # fmt: skip
TRAIN = {
    "network": "unet2d", "batch": 4, "machine": MACHINE, "layouts": [
        {"layout": "channels_last", "time_ratio": [1.25, 1.2, 1.3], "memory_ratio": 0.5, "ours_seconds": [0.1],
         "peer_seconds": [0.125], "memory": [[{"bytes": 1}]], "others_cores": 0.0},
    ],
}  # fmt: skip
INFER = {
    "machine": MACHINE, "rows": [
        {"network": "resnet18", "shape": [1, 3, 64, 64], "layout": "channels_first", "peer": "onnxruntime",
         "status": "ok", "ratio": [1.5, 1, 2], "ours_seconds": [0.01], "peer_seconds": [0.015], "others_cores": 0.0},
    ],
}  # fmt: skip
FAMILY = {
    "family": "latency", "machine": MACHINE, "rows": [
        {"function": "conv2d", "direction": "forward", "ours_seconds": [1.0], "peer_seconds": [0.5],
         "others_cores": 0.0},
    ],
}  # fmt: skip
CLIFFS = {
    "machine": MACHINE, "steps": [{"step": 1.55, "varies": "filters", "values": [32, 33], "window": "3x3"}],
}  # fmt: skip
START = {"machine": MACHINE, "processes": [{"fastconv": 0.05, "process": 0.6}]}


def test_readme_is_what_the_results_say():
    text = readme.README.read_text("utf-8")
    assert text == readme.replaced(text, readme.block(readme.committed())), "run python -m bench readme"


def test_every_table(tmp_path, monkeypatch):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.START}\nold\n{readme.END}\nafter\n")
    monkeypatch.setattr(readme, "README", file)
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "results")
    taken = []
    for name, document in {"a": {"runs": [RUN]}, "b": TRAIN, "c": INFER, "d": FAMILY, "e": CLIFFS, "f": START}.items():
        taken.append(str(tmp_path / f"{name}.json"))
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    assert command.main(["readme", "--take", *taken]) == 0
    text = file.read_text()
    for line in (
        "Float32, a CPU, 2 cores; numpy 2.0; commit 0123456789ab, 2026-01-02.",
        "During 1 of 6 measurements other processes took more than 0.1 cores.",
        "| resnet50 | 2 | first | 1.00 (0.50 b; 1 of 2) | - | - |",
        "| resnet50 | 2 | last | - | - | 3.00 (3.00 a; 0 of 1) |",
        "| unet2d x 4 | 2 | last | 100.0 ms | 125.0 ms | 1.25 | 0.50 |",
        "| resnet18 x 1 | 2 | first | onnxruntime | 10.00 ms | 15.00 ms | 1.50 |",
        "changes the time of an operation by at most 1.55 times (filters 32 and 33, 3x3, threads: 2).",
        "A new process has its first convolution after 600 ms on a CPU.",
        "| latency | 2 | 0.50 (0.50 conv2d; 1 of 1) | - |",
    ):
        assert line in text
    assert text.startswith("before\n") and text.endswith(f"{readme.END}\nafter\n") and "old" not in text
    assert all("ours_seconds" not in path.read_text() for path in (tmp_path / "results").iterdir())
    assert command.main(["readme"]) == 0
    assert file.read_text() == text


def test_results_of_two_commits_are_refused(tmp_path, capsys):
    other = {**RUN, "machine": {**MACHINE, "commit": "fedcba"}}
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, document in zip(paths, (RUN, other), strict=True):
        path.write_text(json.dumps(document))
    assert command.main(["readme", "--take", *map(str, paths)]) == 2
    assert "one machine and one commit" in capsys.readouterr().err


def test_markers_are_needed():
    with pytest.raises(ShapeError, match="no markers"):
        readme.replaced("text", "inside")
