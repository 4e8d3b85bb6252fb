"""Learning-rate schedules against torch.optim.lr_scheduler, step by step."""

import pickle

import numpy
import pytest
import torch

from fastconv import Tensor, optim
from fastconv.errors import FastconvError, ShapeError
from fastconv.nn import Parameter
from fastconv.optim import lr_scheduler

RELATIVE = 1e-12  # float64

SCHEDULES = {
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda t: 0.95**t, lambda t: 1 / (t + 1)]),
    "StepLR": lambda s, o: s.StepLR(o, 4, gamma=0.3),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [0, 3, 7, 7, 20], gamma=0.5),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 10, eta_min=0.01),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.25, 0.75, total_iters=9),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.4, total_steps=40),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, [0.4, 0.2], epochs=8, steps_per_epoch=5, anneal_strategy="linear", three_phase=True, pct_start=0.2
    ),
    "OneCycleLR no momentum": lambda s, o: s.OneCycleLR(o, 0.4, total_steps=40, cycle_momentum=False),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.CosineAnnealingLR(o, 15), s.StepLR(o, 2)], [5, 20]
    ),
    "SequentialLR of factors": lambda s, o: s.SequentialLR(
        o, [s.ExponentialLR(o, 0.9), s.MultiStepLR(o, [0, 4]), s.LambdaLR(o, lambda t: 0.5**t)], [6, 17]
    ),
    "SequentialLR of cycles": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1), s.OneCycleLR(o, 0.3, total_steps=40)], [4]
    ),
}


def _both_optimisers(name):
    ours = [Parameter(numpy.zeros(3)) for _ in range(3)]
    theirs = [torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(3)]
    options = dict(lr=0.2, momentum=0.9) if name == "SGD" else dict(lr=0.2)
    mine = getattr(optim, name)([{"params": ours[:1]}, {"params": ours[1:], "lr": 0.05}], **options)
    other = getattr(torch.optim, name)([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.05}], **options)
    return mine, other


def _same_groups(mine, other):
    for group, expected in zip(mine.param_groups, other.param_groups, strict=True):
        for key in {"lr", "momentum", "betas"} & set(expected):
            numpy.testing.assert_allclose(group[key], expected[key], rtol=RELATIVE, atol=0, err_msg=key)


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_agrees_with_pytorch(name, optimiser):
    mine, other = _both_optimisers(optimiser)
    schedule = SCHEDULES[name](lr_scheduler, mine)
    expected = SCHEDULES[name](torch.optim.lr_scheduler, other)
    _same_groups(mine, other)
    for _ in range(32):
        other.step()
        schedule.step()
        expected.step()
        _same_groups(mine, other)
        numpy.testing.assert_allclose(schedule.get_last_lr(), expected.get_last_lr(), rtol=RELATIVE)
    assert schedule.last_epoch == expected.last_epoch


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_goes_on_from_its_state(name):
    whole, _ = _both_optimisers("SGD")
    broken, _ = _both_optimisers("SGD")
    schedule, first = SCHEDULES[name](lr_scheduler, whole), SCHEDULES[name](lr_scheduler, broken)
    for _ in range(6):
        schedule.step()
        first.step()
    state, groups = pickle.loads(pickle.dumps((first.state_dict(), broken.state_dict())))
    resumed, _ = _both_optimisers("SGD")
    second = SCHEDULES[name](lr_scheduler, resumed)
    second.load_state_dict(state)
    resumed.load_state_dict(groups)
    for _ in range(20):
        schedule.step()
        second.step()
        assert schedule.get_last_lr() == second.get_last_lr()
        assert [g["lr"] for g in whole.param_groups] == [g["lr"] for g in resumed.param_groups]


@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LinearLR"])
def test_schedule_resumed_by_last_epoch(name):
    make = {
        "StepLR": lambda s, o: s.StepLR(o, 4, gamma=0.3, last_epoch=6),
        "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 7], last_epoch=6),
        "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9, last_epoch=6),
        "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 10, eta_min=0.01, last_epoch=6),
        "LinearLR": lambda s, o: s.LinearLR(o, 0.25, 0.75, total_iters=9, last_epoch=6),
    }[name]
    mine, other = _both_optimisers("SGD")
    for group in (*mine.param_groups, *other.param_groups):
        group["initial_lr"] = group["lr"]
    schedule, expected = make(lr_scheduler, mine), make(torch.optim.lr_scheduler, other)
    for _ in range(20):
        _same_groups(mine, other)
        other.step()
        schedule.step()
        expected.step()


def test_schedules_multiply():
    mine, other = _both_optimisers("SGD")
    both = []
    for library, optimiser in ((lr_scheduler, mine), (torch.optim.lr_scheduler, other)):
        both.append([library.CosineAnnealingLR(optimiser, 10), library.StepLR(optimiser, 3, 0.5)])
    for _ in range(25):
        other.step()
        for schedule in (*both[0], *both[1]):
            schedule.step()
        _same_groups(mine, other)


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_agrees_with_pytorch(mode, threshold_mode):
    mine, other = _both_optimisers("SGD")
    options = dict(
        mode=mode, factor=0.5, patience=2, threshold=0.05, threshold_mode=threshold_mode, cooldown=1,
        min_lr=[0.01, 0.001],
    )  # fmt: skip
    schedule = lr_scheduler.ReduceLROnPlateau(mine, **options)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    rng = numpy.random.default_rng(2)
    for i in range(60):
        metric = float(rng.standard_normal() + (5 - 0.1 * i if mode == "min" else 0.1 * i))
        schedule.step(Tensor(numpy.array(metric)))
        expected.step(metric)
        _same_groups(mine, other)
        assert schedule.best == expected.best
        if i == 30:
            state = schedule.state_dict()
            schedule = lr_scheduler.ReduceLROnPlateau(mine)
            schedule.load_state_dict(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.StepLR(None, 3),
        lambda o: lr_scheduler.StepLR(o, 0),
        lambda o: lr_scheduler.StepLR(o, 3, last_epoch=4),
        lambda o: lr_scheduler.LambdaLR(o, [abs]),
        lambda o: lr_scheduler.LinearLR(o, 0.0),
        lambda o: lr_scheduler.LinearLR(o, end_factor=2),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 0),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=0),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, pct_start=2),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="log"),
        lambda o: lr_scheduler.OneCycleLR(o, [0.1], total_steps=9),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="least"),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="least"),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0),
        lambda o: lr_scheduler.ReduceLROnPlateau(o).step("high"),
        lambda o: lr_scheduler.SequentialLR(o, [], []),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 3)], [4]),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ReduceLROnPlateau(o)], []),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(_both_optimisers("SGD")[0], 3)], []),
    ],
)
def test_schedule_refusals(make):
    mine, _ = _both_optimisers("SGD")
    with pytest.raises(FastconvError):
        make(mine)


def test_one_cycle_ends():
    mine, _ = _both_optimisers("SGD")
    schedule = lr_scheduler.OneCycleLR(mine, 0.1, total_steps=5)
    for _ in range(5):
        schedule.step()
    with pytest.raises(ShapeError):
        schedule.step()


def test_one_cycle_whose_rise_is_one_step():
    mine, _ = _both_optimisers("SGD")  # PyTorch divides by zero here
    schedule = lr_scheduler.OneCycleLR(mine, 0.1, total_steps=10, pct_start=0.1)
    assert schedule.get_last_lr() == [0.1, 0.1]
