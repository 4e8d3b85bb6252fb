"""The benchmark of families: both libraries compute the same in every row, and a run reports what it saw."""

import argparse
import json

import numpy as np
import pytest

from bench.families import family, rows
from bench.libraries import engine
from bench.rows import FAMILIES
from bench.worker import Server

pytest.importorskip("torch", reason="PyTorch is the peer")

COMPARED = {
    "latency": ("conv2d", "max_pool2d", "linear"),
    "activations": ("relu", "prelu", "glu", "softmax"),
    "losses": ("mse_loss", "binary_cross_entropy", "kl_div", "cross_entropy", "nll_loss", "div"),
    "norms": ("batch_norm", "group_norm", "layer_norm", "normalize"),
    "padding": ("pad",),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_told_apart(name):
    names = [(case.name, case.shape, case.direction, case.layout) for case in rows(name, False)]
    assert len(set(names)) == len(names)
    assert {case.function for case in rows(name, True, "*elu")} <= {case.function for case in rows(name, True)}


@pytest.mark.parametrize(
    "case", [case for name, chosen in COMPARED.items() for case in rows(name, True) if case.function in chosen],
    ids=lambda c: f"{c.name}-{c.direction}-{c.layout}-{len(c.shape)}",
)  # fmt: skip
def test_both_libraries_compute_the_same(case):
    channels = case.shape[1]
    case = case._replace(
        shape=(2, channels, *(3, 4, 5)[: len(case.shape) - 2]) if len(case.shape) > 2 else (4, channels)
    )
    if len(case.shape) == 4 and "normalized_shape" in case.options:
        sizes = case.shape[-len(case.options["normalized_shape"]) :]
        case = case._replace(options={"normalized_shape": list(sizes)})
    results = []
    for name in ("cpu", "torch"):
        library = engine(name)
        with library.active():
            job = library.operator(case)
            results.append(job.to_numpy(job.call()))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


def test_a_worker_prepares_an_operator():
    library = engine("cpu")
    server = Server(library)
    case = rows("activations", True, "relu")[0]
    with library.active():
        server.answer(json.loads(json.dumps({"request": "operator", "case": case._asdict()})))
        assert server.answer({"request": "time", "calls": 2}) > 0


def test_a_run_reports_every_row(tmp_path, capsys):
    options = argparse.Namespace(
        command="activations", backend="cpu", peer="none", threads=1, quick=True, rounds=1, rows="relu",
        json=str(tmp_path / "r.json"),
    )  # fmt: skip
    assert family(options) == 0
    assert capsys.readouterr().out.count("relu") == 2
    found = json.loads((tmp_path / "r.json").read_text())
    assert [row["direction"] for row in found["rows"]] == ["forward", "backward"]
