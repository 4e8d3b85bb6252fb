"""The benchmark of activations: both libraries compute the same in every row, and a run reports what it saw."""

import argparse
import json

import numpy as np
import pytest

from bench.activations import activations, rows
from bench.libraries import engine
from bench.worker import Server

pytest.importorskip("torch", reason="PyTorch is the peer")


def test_rows_are_told_apart():
    names = [(case.name, case.shape, case.direction, case.weights) for case in rows(False)]
    assert len(set(names)) == len(names)
    assert {case.function for case in rows(True, "*elu")} <= {case.function for case in rows(True)}


@pytest.mark.parametrize(
    "case", [case for case in rows(True) if case.function in ("relu", "prelu", "glu", "softmax", "normalize")],
    ids=lambda c: f"{c.name}-{c.direction}-{c.weights}-{len(c.shape)}",
)  # fmt: skip
def test_both_libraries_compute_the_same(case):
    case = case._replace(shape=(2, 16, 3, 4) if len(case.shape) == 4 else (4, 32))
    results = []
    for name in ("cpu", "torch"):
        library = engine(name)
        with library.active():
            job = library.activation(case)
            results.append(job.to_numpy(job.call()))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_a_worker_prepares_an_activation():
    library = engine("cpu")
    server = Server(library)
    case = rows(True, "relu")[0]
    with library.active():
        server.answer(json.loads(json.dumps({"request": "activation", "case": case._asdict()})))
        assert server.answer({"request": "time", "calls": 2}) > 0


def test_a_run_reports_every_row(tmp_path, capsys):
    options = argparse.Namespace(
        backend="cpu", peer="none", threads=1, quick=True, rounds=1, rows="relu", json=str(tmp_path / "r.json")
    )
    assert activations(options) == 0
    assert capsys.readouterr().out.count("relu") == 2
    found = json.loads((tmp_path / "r.json").read_text())
    assert [row["direction"] for row in found["rows"]] == ["forward", "backward"]
