"""Optimisers against torch.optim, step by step, and clipping of gradients."""

import copy
import pickle

import ml_dtypes
import numpy
import pytest
import torch

from fastconv import Tensor, optim
from fastconv.errors import DTypeError, FastconvError, GraphError, ShapeError
from fastconv.nn import Parameter
from fastconv.nn.utils import clip_grad_norm_, clip_grad_value_

STEPS = 25
RELATIVE = 1e-12  # float64; worst measured over all optimisers below: 2e-15

OPTIMISERS = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9)),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.02)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02)),
    ("SGD", dict(lr=0.01, momentum=0.5, maximize=True, weight_decay=0.02)),
    ("Adam", dict(lr=0.05)),
    ("Adam", dict(lr=0.05, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.1)),
    ("Adam", dict(lr=0.05, amsgrad=True, maximize=True)),
    ("AdamW", dict(lr=0.05)),
    ("AdamW", dict(lr=0.05, weight_decay=0.3, amsgrad=True)),
]
# The last is larger than the blocks that an update works in; the first has no axes.
SHAPES = [(), (3,), (4, 3, 2), (70, 1000)]


def _pair(shapes=SHAPES, dtype="float64", seed=0):
    """The same random parameters here and in PyTorch."""
    rng = numpy.random.default_rng(seed)
    values = [numpy.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    ours = [Parameter(value.copy()) for value in values]
    if dtype not in ("float32", "float64"):
        return ours, [None] * len(ours)
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in values]
    return ours, theirs


def _give_gradients(ours, theirs, rng):
    for mine, other in zip(ours, theirs, strict=True):
        grad = numpy.asarray(rng.standard_normal(mine.shape)).astype(mine.dtype)
        mine.grad = Tensor(grad)
        if other is not None:
            other.grad = torch.tensor(grad)


def _agree(ours, theirs, relative=RELATIVE):
    for mine, other in zip(ours, theirs, strict=True):
        numpy.testing.assert_allclose(mine.data, other.detach().numpy(), rtol=relative, atol=relative)


@pytest.mark.parametrize(("name", "options"), OPTIMISERS)
def test_optimiser_agrees_with_pytorch(name, options):
    ours, theirs = _pair()
    mine, other = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    rng = numpy.random.default_rng(1)
    for _ in range(STEPS):
        _give_gradients(ours, theirs, rng)
        mine.step()
        other.step()
        _agree(ours, theirs)


@pytest.mark.parametrize(("name", "options"), OPTIMISERS)
def test_state_goes_over_from_pytorch_and_on(name, options):
    ours, theirs = _pair()
    other = getattr(torch.optim, name)(theirs, **options)
    rng = numpy.random.default_rng(1)
    for _ in range(3):
        _give_gradients(ours, theirs, rng)
        other.step()
    for mine, theirs_now in zip(ours, theirs, strict=True):
        mine.data[...] = theirs_now.detach().numpy()
    mine = getattr(optim, name)(ours, lr=7.0)
    saved = other.state_dict()
    arrays = {
        number: {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in known.items()}
        for number, known in saved["state"].items()
    }
    mine.load_state_dict({"state": arrays, "param_groups": saved["param_groups"]})
    again = getattr(optim, name)(ours, lr=7.0)
    again.load_state_dict(pickle.loads(pickle.dumps(mine.state_dict())))
    for _ in range(3):
        _give_gradients(ours, theirs, rng)
        again.step()
        other.step()
        _agree(ours, theirs)
    assert set(again.state_dict()["state"]) == set(other.state_dict()["state"])


def test_loaded_state_is_a_copy():
    ours, _ = _pair()
    mine = optim.SGD(ours, lr=0.1, momentum=0.9)
    _give_gradients(ours, _pair()[1], numpy.random.default_rng(1))
    mine.step()
    saved = mine.state_dict()
    other = optim.SGD(ours, lr=0.1, momentum=0.9)
    other.load_state_dict(saved)
    for number, param in enumerate(ours):
        assert other.state[param]["momentum_buffer"] is not saved["state"][number]["momentum_buffer"]


def test_groups_have_options_of_their_own():
    ours, theirs = _pair()
    mine = optim.SGD([{"params": ours[:2], "lr": 0.5}, {"params": ours[2]}], lr=0.1, momentum=0.9)
    other = torch.optim.SGD([{"params": theirs[:2], "lr": 0.5}, {"params": theirs[2]}], lr=0.1, momentum=0.9)
    mine.add_param_group({"params": ours[3:], "weight_decay": 0.1})
    other.add_param_group({"params": theirs[3:], "weight_decay": 0.1})
    rng = numpy.random.default_rng(1)
    for _ in range(3):
        _give_gradients(ours, theirs, rng)
        mine.step()
        other.step()
    _agree(ours, theirs)


def test_parameters_without_a_gradient_stay():
    ours, theirs = _pair()
    mine, other = optim.Adam(ours), torch.optim.Adam(theirs)
    rng = numpy.random.default_rng(1)
    for i in range(4):
        _give_gradients(ours, theirs, rng)
        if i % 2:
            ours[1].grad = theirs[1].grad = None
        mine.step()
        other.step()
    _agree(ours, theirs)


def test_updates_happen_in_place_and_leave_the_gradient():
    ours, theirs = _pair()
    arrays = [param.data for param in ours]
    mine = optim.AdamW(ours, maximize=True, weight_decay=0.1)
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    before = [param.grad.data.copy() for param in ours]
    mine.step()
    assert all(param.data is array for param, array in zip(ours, arrays, strict=True))
    assert all(numpy.array_equal(param.grad.data, g) for param, g in zip(ours, before, strict=True))


@pytest.mark.parametrize("order", ["F", "sliced"])
def test_any_memory_order(order):
    ours, theirs = _pair([(300, 400)])
    data = numpy.zeros((300, 800))[:, ::2] if order == "sliced" else numpy.zeros((300, 400), order="F")
    data[...] = ours[0].data
    ours[0].data = data
    mine, other = optim.Adam(ours), torch.optim.Adam(theirs)
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    mine.step()
    other.step()
    _agree(ours, theirs)


def test_float32_stays_float32():
    ours, theirs = _pair(dtype="float32")
    mine, other = optim.SGD(ours, lr=0.1, momentum=0.9), torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    rng = numpy.random.default_rng(1)
    for _ in range(STEPS):
        _give_gradients(ours, theirs, rng)
        mine.step()
        other.step()
    assert all(param.dtype == "float32" and mine.state[param]["momentum_buffer"].dtype == "float32" for param in ours)
    # Each step rounds values below 16 to half an eps of them: once in the velocity, twice in the parameter.
    for param, expected in zip(ours, theirs, strict=True):
        bound = STEPS * 1.5 * 16 * numpy.finfo("float32").eps
        numpy.testing.assert_allclose(param.data, expected.detach().numpy(), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_updated_in_float32_and_rounded_once(dtype):
    half = numpy.dtype(getattr(ml_dtypes, dtype, dtype))
    ours, theirs = _pair(dtype=half)
    mine = optim.SGD(ours, lr=0.1, momentum=0.9)
    expected = [param.data.copy() for param in ours]
    velocity = [numpy.zeros_like(param.data) for param in ours]
    rng = numpy.random.default_rng(1)
    for _ in range(STEPS):
        _give_gradients(ours, theirs, rng)
        mine.step()
        for i, param in enumerate(ours):
            v = velocity[i].astype("float32") * numpy.float32(0.9) + param.grad.data.astype("float32")
            velocity[i] = v.astype(half)
            expected[i] = (expected[i].astype("float32") - numpy.float32(0.1) * v).astype(half)
            assert numpy.array_equal(param.data, expected[i])
            assert param.dtype == half
            assert numpy.array_equal(mine.state[param]["momentum_buffer"], velocity[i])


def test_half_parameters_survive_a_tiny_gradient():
    param = Parameter(numpy.ones(3, "float16"))
    param.grad = Tensor(numpy.full(3, 1e-4, "float16"))
    optim.Adam([param], lr=0.25).step()
    # The mean square, 1e-11, is 0 in float16: the update is computed before it is rounded.
    numpy.testing.assert_array_equal(param.data, numpy.full(3, 0.75, "float16"))


def test_closure_is_called_with_gradients_enabled():
    param = Parameter(numpy.array([3.0]))

    def closure():
        param.grad = Tensor(numpy.array([1.0]))
        return 5.0

    assert optim.SGD([param], lr=1.0).step(closure) == 5.0
    assert param.data[0] == 2.0


def test_zero_grad():
    ours, theirs = _pair()
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    mine = optim.SGD(ours)
    mine.zero_grad(set_to_none=False)
    assert all(not param.grad.data.any() for param in ours)
    mine.zero_grad()
    assert all(param.grad is None for param in ours)


def test_optimiser_can_be_copied_with_its_parameters():
    ours, theirs = _pair()
    mine = optim.Adam(ours)
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    mine.step()
    params, other = copy.deepcopy((ours, mine))
    assert other.param_groups[0]["params"][0] is params[0]
    for param, twin in zip(ours, params, strict=True):
        assert numpy.array_equal(mine.state[param]["exp_avg"], other.state[twin]["exp_avg"])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda p: optim.SGD(p, lr=-1.0), ShapeError),
        (lambda p: optim.SGD(p, lr=float("nan")), ShapeError),
        (lambda p: optim.SGD(p, lr="0.1"), DTypeError),
        (lambda p: optim.SGD(p, momentum=-0.1), ShapeError),
        (lambda p: optim.SGD(p, weight_decay=-0.1), ShapeError),
        (lambda p: optim.SGD(p, nesterov=True), ShapeError),
        (lambda p: optim.SGD(p, nesterov=True, momentum=0.9, dampening=0.1), ShapeError),
        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), ShapeError),
        (lambda p: optim.Adam(p, betas=(0.9, -0.1)), ShapeError),
        (lambda p: optim.Adam(p, betas=0.9), DTypeError),
        (lambda p: optim.Adam(p, eps=-1e-8), ShapeError),
        (lambda p: optim.AdamW(p, weight_decay=-1), ShapeError),
        (lambda p: optim.SGD([]), ShapeError),
        (lambda p: optim.SGD(p[0]), DTypeError),
        (lambda p: optim.SGD([*p, p[0]]), ShapeError),
        (lambda p: optim.SGD([{"params": p}, {"params": p[:1]}]), ShapeError),
        (lambda p: optim.SGD([numpy.zeros(3)]), DTypeError),
        (lambda p: optim.SGD([{"params": set(p)}]), DTypeError),
        (lambda p: optim.SGD([{"params": p, "lr": -1}]), ShapeError),
        (lambda p: optim.SGD([Tensor(numpy.zeros(3, "int64"))]), DTypeError),
        (lambda p: optim.SGD([p[0] * 2]), GraphError),
        (lambda p: optim.SGD(p).load_state_dict(optim.SGD(p[:1]).state_dict()), ShapeError),
    ],
)
def test_refusals(make, error):
    ours, _ = _pair()
    with pytest.raises(error) as caught:
        make(ours)
    assert isinstance(caught.value, FastconvError)


@pytest.mark.parametrize(("grad", "error"), [(numpy.zeros(4), ShapeError), (numpy.zeros(3, "float32"), DTypeError)])
def test_gradients_that_do_not_fit_are_refused(grad, error):
    param = Parameter(numpy.ones(3))
    param.grad = Tensor(grad)
    with pytest.raises(error):
        optim.SGD([param]).step()


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm(norm_type, max_norm):
    ours, theirs = _pair()
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    ours[1].grad = theirs[1].grad = None
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    numpy.testing.assert_allclose(norm.item(), expected.item(), rtol=RELATIVE)
    for mine, other in zip(ours, theirs, strict=True):
        if mine.grad is not None:
            numpy.testing.assert_allclose(mine.grad.data, other.grad.numpy(), rtol=RELATIVE)


def test_clip_grad_norm_of_halves_does_not_overflow():
    param = Parameter(numpy.zeros(4, "float16"))
    param.grad = Tensor(numpy.full(4, 3e4, "float16"))  # whose squares are no float16
    norm = clip_grad_norm_(param, 2.0)
    numpy.testing.assert_allclose(norm.item(), 2 * param.dtype.type(3e4).astype("float64"), rtol=1e-6)
    numpy.testing.assert_array_equal(param.grad.data, numpy.ones(4, "float16"))


def test_clip_grad_norm_refuses_what_is_not_finite():
    param = Parameter(numpy.zeros(4))
    param.grad = Tensor(numpy.full(4, numpy.nan))
    with pytest.raises(GraphError):
        clip_grad_norm_([param], 1.0, error_if_nonfinite=True)
    assert clip_grad_norm_([Parameter(numpy.zeros(4))], 1.0).item() == 0


def test_clip_grad_value():
    ours, theirs = _pair()
    _give_gradients(ours, theirs, numpy.random.default_rng(1))
    clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    for mine, other in zip(ours, theirs, strict=True):
        numpy.testing.assert_array_equal(mine.grad.data, other.grad.numpy())
