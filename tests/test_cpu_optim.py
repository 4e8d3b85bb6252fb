"""Steps of optimisers in one pass on the CPU beside the same steps by NumPy, block by block."""

import numpy as np
import pytest

from fastconv import Tensor, optim
from fastconv.cpu import threads
from fastconv.nn import Parameter
from fastconv.optim import adam, sgd

OPTIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.01, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
]
SHAPES = [(1,), (3, 5), (7, 1, 1, 9), (2, 127, 131)]  # the last is more than two blocks


def stepped(name, options, dtype, count=1, order="C", steps=3):
    """Parameters after some steps."""
    rng = np.random.default_rng(0)
    with threads.num_threads(count):
        drawn = [np.asarray(rng.standard_normal(shape).astype(dtype), order=order) for shape in SHAPES]
        params = [Parameter(p) for p in drawn]
        optimiser = getattr(optim, name)(params, **options)
        for _ in range(steps):
            for p in params:
                p.grad = Tensor(np.asarray(rng.standard_normal(p.shape).astype(dtype), order=order))
            optimiser.step()
        for p, before in zip(params, drawn, strict=True):
            assert p.data is before
        return [p.data for p in params]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("name, options", OPTIONS)
def test_one_pass_is_what_numpy_computes(monkeypatch, name, options, order, dtype):
    actual = stepped(name, options, dtype, order=order)
    for module in (adam, sgd):
        monkeypatch.setattr(module, "in_memory_order", lambda *arrays: None)
    eps = np.finfo(dtype).eps
    for a, b in zip(actual, stepped(name, options, dtype, order=order), strict=True):
        np.testing.assert_allclose(a, b, rtol=32 * eps, atol=32 * eps)


@pytest.mark.parametrize("name, options", OPTIONS)
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, name, options):
    monkeypatch.setattr(threads, "SERIAL_NANOSECONDS", 0)
    results = [stepped(name, options, "float32", count) for count in (1, 2, 3)]
    for a, b, c in zip(*results, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


@pytest.mark.parametrize("name, options", OPTIONS)
def test_what_is_not_finite_stays_in_its_place(name, options):
    p = Parameter(np.array([np.inf, 1, -np.inf, 2], "float32"))
    p.grad = Tensor(np.array([1, np.nan, 0, 1], "float32"))
    getattr(optim, name)([p], **{**options, "weight_decay": 0}).step()
    assert p.data[0] == np.inf and np.isnan(p.data[1]) and p.data[2] == -np.inf and np.isfinite(p.data[3])


@pytest.mark.parametrize("name, options", OPTIONS)
def test_a_parameter_that_is_read_only_is_not_written(name, options):
    p = Parameter(np.ones((4, 3), "float32"))
    p.grad = Tensor(np.ones((4, 3), "float32"))
    p.data.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        getattr(optim, name)([p], **options).step()
    assert (p.data == 1).all()
