"""A training step and inference of a network of bench.networks, by each library that can do it."""

import os
from typing import Any, NamedTuple

import numpy

from bench.clocks import HostClock
from bench.networks import NETWORKS


class NetworkJob(NamedTuple):
    """A network made ready by an engine.

    Attributes:
        call: One step of training, or one inference.
        results: Gives what the first call computes as NumPy arrays by name: loss and gradients, or y.
    """

    call: Any
    results: Any


def of_fastconv(name, batch, layout, learning):
    """The NetworkJob of fastconv: trained as it is, inference of what fastconv.fuse makes of it."""
    import fastconv

    network = NETWORKS[name]
    model = network.build(fastconv)
    model.load_state_dict(network.state({k: v.shape for k, v in model.state_dict().items()}))
    x = fastconv.tensor(network.inputs(batch, layout))
    if learning:
        return _training(fastconv, model, x, network.targets(batch), lambda v: v.detach().numpy())
    model = fastconv.fuse(model.eval(), x)
    return NetworkJob(lambda: model(x), lambda: {"y": model(x).numpy()})


def of_torch(name, batch, layout, learning):
    """The NetworkJob of PyTorch: inference with batch norms folded by torch.fx."""
    import torch
    from torch.fx.experimental import optimization

    network = NETWORKS[name]
    model = network.build(torch)
    state = network.state({k: tuple(v.shape) for k, v in model.state_dict().items()})
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    x = torch.from_numpy(network.inputs(batch, layout))
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last if network.rank == 2 else torch.channels_last_3d)
    torch.set_grad_enabled(learning)  # until active() ends
    if learning:
        return _training(torch, model, x, torch.from_numpy(network.targets(batch)), lambda v: v.detach().numpy())
    model = optimization.fuse(model.eval())

    def call():
        with torch.inference_mode():
            return model(x)

    return NetworkJob(call, lambda: {"y": call().numpy()})


def of_onnxruntime(name, batch):
    """The NetworkJob of ONNX Runtime, which folds and fuses for itself."""
    import onnxruntime

    from bench.onnx_graph import exported

    network = NETWORKS[name]
    x = network.inputs(batch, "channels_first")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads sleep while others are timed
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(exported(network), options, providers=["CPUExecutionProvider"])
    return NetworkJob(lambda: session.run(None, {"x": x}), lambda: {"y": session.run(None, {"x": x})[0]})


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU, for inference alone."""

    clock = HostClock()

    def __init__(self):
        import onnx  # noqa: F401 - the graph is made with it
        import onnxruntime

        self.version = onnxruntime.__version__

    def active(self):
        """A context manager within which jobs are prepared and called."""
        return numpy.errstate()

    def network(self, name, batch, layout, learning):
        """The NetworkJob of a network."""
        if learning or layout != "channels_first":
            raise NotImplementedError("ONNX Runtime: inference of channels-first arrays alone")
        return of_onnxruntime(name, batch)


def _training(library, model, x, targets, to_numpy):
    model.train()
    optimiser = library.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    cross_entropy = library.nn.functional.cross_entropy if hasattr(library.nn, "functional") else None
    cross_entropy = cross_entropy or library.functional.cross_entropy

    def loss_and_gradients():
        optimiser.zero_grad()
        loss = cross_entropy(model(x), targets)
        loss.backward()
        return loss

    def step():
        loss_and_gradients()
        optimiser.step()
        optimiser.zero_grad()

    def results():
        dropouts = [m for m in model.modules() if type(m).__name__ == "Dropout"]
        shares = [m.p for m in dropouts]
        for module in dropouts:
            module.p = 0.0  # chance is each library's own
        loss = loss_and_gradients()
        found = {"loss": to_numpy(loss), **{k: to_numpy(v.grad) for k, v in model.named_parameters()}}
        for module, share in zip(dropouts, shares, strict=True):
            module.p = share
        return found

    return NetworkJob(step, results)
