"""Networks trained through the CUDA backend: on the emulator, and on arrays that are not NumPy's to fastconv."""

import math

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from examples.digits.data import load
from examples.digits.network import build_network
from fastconv import nn, optim
from fastconv.tolerance import bound
from tests import cupy_stand_in
from tests.emulation import require

STEPS, BATCH = 4, 12
# Products that an element of the widest layer sums: Linear(64 * 4 * 4, 128).
LENGTH = 64 * 4 * 4


@pytest.fixture(autouse=True)
def built():
    require("plain")


def losses(backend, dtype, device="cpu"):
    """The loss before each step of the demo's network, trained on the first scans."""
    fastconv.manual_seed(0)
    digits = load()
    scans, classes = digits.train_scans[:BATCH].astype(dtype), digits.train_classes[:BATCH]
    network = build_network(nn).to(device, dtype)
    optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    seen = []
    with fastconv.use_backend(backend):
        for _ in range(STEPS):
            x, target = fastconv.tensor(scans).to(device), fastconv.tensor(classes).to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), target)
            loss.backward()
            optimizer.step()
            seen.append(loss.detach().cpu().item())
    return np.array(seen)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_demo_network_has_the_losses_of_the_cpu(dtype):
    ours, theirs = losses("emulated", dtype), losses("cpu", dtype)
    allowed = bound(theirs, np.abs(theirs), LENGTH, dtype, c=2.0)  # measured: at most 0.02 of it
    assert (np.abs(ours - theirs) <= allowed).all(), (ours - theirs, allowed)
    assert theirs[-1] < theirs[0]


def test_training_on_a_gpu_needs_no_copy_to_the_host(cupy):
    """All that fastconv does in a step happens where the arrays are; only asking for the loss brings it back."""
    on_gpu = losses("cuda", "float32", "cuda")
    copies = [entry for entry in cupy_stand_in.log if entry[0] == "copy to host"]
    assert len(copies) == STEPS
    np.testing.assert_array_equal(on_gpu, losses("emulated", "float32"))


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_optimisers_work_on_arrays_of_a_gpu(cupy, make):
    def trained(device):
        fastconv.manual_seed(1)
        layer = nn.Linear(5, 3).to(device)
        optimizer = make(layer.parameters(), lr=0.1)
        x = fastconv.tensor(np.linspace(-1, 1, 20, dtype="f4").reshape(4, 5)).to(device)
        with fastconv.use_backend("cuda" if device == "cuda" else "emulated"):
            for _ in range(3):
                optimizer.zero_grad()
                layer(x).square().mean().backward()
                optimizer.step()
        return layer, optimizer

    on_gpu, state = trained("cuda")
    on_host, _ = trained("cpu")
    for a, b in zip(on_gpu.parameters(), on_host.parameters(), strict=True):
        assert isinstance(a.data, cupy.ndarray)
        assert isinstance(a.grad.data, cupy.ndarray)
        np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().numpy())
    saved = state.state_dict()
    state.load_state_dict(saved)
    assert math.isclose(saved["param_groups"][0]["lr"], 0.1)


def test_dropout_draws_the_same_mask_on_every_device(cupy):
    x = np.ones((4, 6), "f4")
    fastconv.manual_seed(3)
    here = F.dropout(x, 0.5, training=True)
    fastconv.manual_seed(3)
    there = F.dropout(cupy.asarray(x), 0.5, training=True)
    assert isinstance(there, cupy.ndarray)
    np.testing.assert_array_equal(there.get(), here)
