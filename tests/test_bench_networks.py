"""The networks of the benchmark, and what is measured with them: both libraries compute the same."""

import json

import numpy
import pytest

import fastconv
from bench import __main__ as command
from bench import cliffs, train
from bench.libraries import engine
from bench.networks import NETWORKS
from bench.process import Worker

SMALL = {"digits": (4, 1, 8, 8), "resnet18": (2, 3, 32, 32), "unet2d": (2, 1, 16, 16), "unet3d": (1, 1, 8, 8, 16)}


def built(name, library):
    """A network with its state, and the state."""
    network = NETWORKS[name]
    model = network.build(library)
    return model, network.state({key: tuple(value.shape) for key, value in model.state_dict().items()})


@pytest.mark.parametrize("name", NETWORKS)
def test_both_libraries_build_the_same_network(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the peer")
    network = NETWORKS[name]._replace(shape=SMALL[name])
    (ours, state), (theirs, names) = built(name, fastconv), built(name, torch)
    assert list(state) == list(names)
    ours.load_state_dict(state)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    ours.double(), theirs.double()
    for model in (ours, theirs):
        for module in model.modules():
            if type(module).__name__ == "Dropout":
                module.p = 0.0
    x, targets = network.inputs(SMALL[name][0], "channels_first").astype("float64"), network.targets(SMALL[name][0])
    with fastconv.use_backend("reference"):
        loss = fastconv.functional.cross_entropy(ours(fastconv.tensor(x)), targets)
        loss.backward()
    expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(targets))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    largest = max(param.grad.abs().max().item() for param in theirs.parameters())
    for (key, param), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        numpy.testing.assert_allclose(param.grad.data, other.grad.numpy(), rtol=0, atol=1e-9 * largest, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_for_onnx_runtime_computes_the_same(name, monkeypatch):
    pytest.importorskip("onnx", reason="the graph is made with it")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the peer")
    from bench.onnx_graph import exported

    network = NETWORKS[name]._replace(shape=SMALL[name])
    session = runtime.InferenceSession(exported(network), providers=["CPUExecutionProvider"])
    model, state = built(name, fastconv)
    model.load_state_dict(state)
    x = network.inputs(2, "channels_first")
    expected = model.eval()(x).data
    difference = numpy.linalg.norm(session.run(None, {"x": x})[0] - expected)
    assert difference <= 1e-5 * numpy.linalg.norm(expected)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_inference_is_that_of_the_network(layout):
    model, state = built("digits", fastconv)
    model.load_state_dict(state)
    library = engine("cpu")
    with library.active():
        y = library.network("digits", 3, layout, False).results()["y"]
    expected = model.eval()(NETWORKS["digits"].inputs(3, layout)).data
    numpy.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_workers_compare_what_they_compute():
    case = {"network": "digits", "batch": 2, "layout": "channels_last", "learning": True}
    with Worker("reference", 1) as one, Worker("cpu", 1) as other:
        for each in (one, other):
            each.request("network", **case)
        assert train.difference((one, other)) < 1e-5
        other.request("network", **{**case, "batch": 3})
        assert train.difference((one, other)) > 0.1
        assert other.request("time", calls=1) > 0


def test_train_and_infer_report(tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is the peer")
    file = tmp_path / "r.json"
    common = ["--quick", "--rounds", "1", "--threads", "1", "--json", str(file)]
    assert command.main(["infer", "--network", "digits", "--peer", "torch", *common]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["shape"][0], row["layout"], row["status"]) for row in rows] == [
        (batch, layout, "ok") for batch in (1, 2) for layout in ("channels_first", "channels_last")
    ]
    assert "torch: geometric mean" in capsys.readouterr().out
    assert command.main(["train", "--peer", "reference", "--layout", "channels_last", *common]) == 0
    (result,) = json.loads(file.read_text())["layouts"]
    assert result["difference"] < train.TOLERANCE and len(result["memory"]) == 2


def test_cliffs_are_sorted_and_checked(tmp_path, monkeypatch, capsys):
    file = tmp_path / "r.json"
    monkeypatch.setattr(cliffs, "POWERS", {"channels": (4, 4)})
    monkeypatch.setattr(cliffs, "BASE", {"batch": 1, "channels": 4, "size": 5, "filters": 4})
    words = ["cliffs", "--quick", "--rounds", "1", "--threads", "1", "--layout", "channels_first", "--json", str(file)]
    assert command.main(words) == 0
    steps = json.loads(file.read_text())["steps"]
    assert [step["step"] for step in steps] == sorted((step["step"] for step in steps), reverse=True)
    assert {tuple(step["values"]) for step in steps} == {(3, 4), (4, 5)}
    assert f"largest step {steps[0]['step']:.2f}" in capsys.readouterr().out
    for limit, status in ((0.5, 1), (1e6, 0)):
        monkeypatch.setattr(cliffs, "LIMIT", limit)
        assert command.main([*words, "--check"]) == status


def test_run_takes_several_numbers_of_threads(tmp_path, capsys):
    file = tmp_path / "r.json"
    words = ["run", "--suite", "tiny", "--quick", "--rounds", "1", "--rows", "image", "--direction", "forward"]
    assert command.main([*words, "--peer", "reference", "--threads", "1,2", "--json", str(file)]) == 0
    runs = json.loads(file.read_text())["runs"]
    assert [document["machine"]["threads"] for document in runs] == [1, 2]
    assert "1 thread" in capsys.readouterr().out
