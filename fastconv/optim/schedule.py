"""Learning rates that change from epoch to epoch, as torch.optim.lr_scheduler.

Most schedules multiply the rate that they find, so that several of them can act on one optimiser.
"""

import math
from bisect import bisect_right
from collections import Counter

from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.optim.optimizer import Optimizer

_ARGS = """optimizer: The Optimizer whose groups are changed.
        last_epoch: The last epoch of an interrupted run, or -1 to begin."""


class LRScheduler:
    __doc__ = f"""Base class of every schedule; subclasses define get_lr(), the next rate of each group.

    Args:
        {_ARGS}

    Attributes:
        last_epoch: How many steps were made.
        base_lrs: The rate of each group at the beginning.

    Raises:
        DTypeError: optimizer is no Optimizer.
        ShapeError: An interrupted run shall go on with an optimiser that was never scheduled.
    """

    def __init__(self, optimizer, last_epoch=-1):
        self.optimizer = checked_optimizer(optimizer, type(self).__name__)
        for group in optimizer.param_groups:
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ShapeError(
                    type(self).__name__, "last_epoch", last_epoch, '-1, as no group has an "initial_lr"',
                    "load the state of the optimiser first",
                )  # fmt: skip
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self):
        """The step that sets the first rates."""
        self.last_epoch += 1
        self._set(self._first_lr())

    def _first_lr(self):
        """What get_lr() would be before any step."""
        return self.get_lr()

    def _restart(self):
        """Go back to epoch 0, whatever the rates are by now."""
        self.last_epoch = 0
        self._set(self._lr_at_start())

    def _lr_at_start(self):
        """The rates of epoch 0."""
        return list(self.base_lrs)

    def _set(self, rates):
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = list(rates)

    def _current(self):
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_lr(self):
        """The rate of each group in epoch last_epoch, from that of the epoch before."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr()")

    def get_last_lr(self):
        """The rate of each group as the last step set it."""
        return self._last_lr

    def step(self):
        """Go on by one epoch: set the rate of every group. To be called after optimizer.step()."""
        self.last_epoch += 1
        self._set(self.get_lr())

    def state_dict(self):
        """Everything but the optimiser, for load_state_dict()."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict):
        """Go on where the schedule stood that state_dict came from; the rates are the optimiser's state."""
        vars(self).update(state_dict)


class LambdaLR(LRScheduler):
    __doc__ = f"""The rate of the beginning times a function of the epoch, as LambdaLR of PyTorch.

    Args:
        {_ARGS}
        lr_lambda: Function from the epoch to a factor, or a list of one a group.

    Raises:
        ShapeError: There are not as many functions as groups.
    """

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        self.lr_lambdas = per_group(checked_optimizer(optimizer, "LambdaLR"), "LambdaLR", "lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [lr * factor(self.last_epoch) for lr, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def _lr_at_start(self):
        return self.get_lr()

    def state_dict(self):
        """Everything but the optimiser and plain functions; objects that are called save their attributes."""
        return {**super().state_dict(), "lr_lambdas": [_attributes(f) for f in self.lr_lambdas]}

    def load_state_dict(self, state_dict):
        """Go on where the schedule stood; plain functions stay those that this one was made with."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if attributes is not None:
                vars(function).update(attributes)


class StepLR(LRScheduler):
    __doc__ = f"""Multiply by gamma every step_size epochs, as StepLR of PyTorch.

    Args:
        {_ARGS}
        step_size: Epochs from one change to the next.
        gamma: The factor.

    Raises:
        ShapeError: step_size is below 1.
    """

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        _check_count("StepLR", "step_size", step_size)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch == 0 or self.last_epoch % self.step_size != 0:
            return self._current()
        return [lr * self.gamma for lr in self._current()]


class MultiStepLR(LRScheduler):
    __doc__ = f"""Multiply by gamma at some epochs, as MultiStepLR of PyTorch.

    Args:
        {_ARGS}
        milestones: The epochs; one that is there twice counts twice.
        gamma: The factor.
    """

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        return [lr * self.gamma ** self.milestones[self.last_epoch] for lr in self._current()]

    def _lr_at_start(self):
        return [lr * self.gamma ** self.milestones[0] for lr in self.base_lrs]


class ExponentialLR(LRScheduler):
    __doc__ = f"""Multiply by gamma every epoch, as ExponentialLR of PyTorch.

    Args:
        {_ARGS}
        gamma: The factor.
    """

    def __init__(self, optimizer, gamma, last_epoch=-1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _first_lr(self):
        return self._current()

    def get_lr(self):
        return [lr * self.gamma for lr in self._current()]


class LinearLR(LRScheduler):
    __doc__ = f"""A factor that changes evenly from start_factor to end_factor, as LinearLR of PyTorch.

    Args:
        {_ARGS}
        start_factor: Factor of epoch 0; above 0, at most 1.
        end_factor: Factor from epoch total_iters on; 0 to 1.
        total_iters: Epochs that the change takes.

    Raises:
        ShapeError: A factor is out of range.
    """

    def __init__(self, optimizer, start_factor=1 / 3, end_factor=1.0, total_iters=5, last_epoch=-1):
        if not 0 < start_factor <= 1:
            raise ShapeError("LinearLR", "start_factor", start_factor, "above 0 and at most 1")
        if not 0 <= end_factor <= 1:
            raise ShapeError("LinearLR", "end_factor", end_factor, "0 to 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _first_lr(self):
        return [lr * self.start_factor for lr in self._current()] if self.last_epoch == 0 else self._current()

    def _lr_at_start(self):
        return [lr * self.start_factor for lr in self.base_lrs]

    def get_lr(self):
        if self.last_epoch > self.total_iters:
            return self._current()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return [lr * (1 + rise / before) for lr in self._current()]


class CosineAnnealingLR(LRScheduler):
    __doc__ = f"""Half a cosine from the rate of the beginning to eta_min and back, as CosineAnnealingLR of PyTorch.

    Args:
        {_ARGS}
        T_max: Epochs from the largest rate to the smallest.
        eta_min: The smallest rate.

    Raises:
        ShapeError: T_max is below 1.

    Source: Loshchilov & Hutter, arXiv:1608.03983, without restarts.
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):  # noqa: N803 (PyTorch's name)
        _check_count("CosineAnnealingLR", "T_max", T_max)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _first_lr(self):
        return self._current()

    def get_lr(self):
        turn = math.pi / self.T_max
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the epoch before had eta_min itself
            rise = (1 - math.cos(turn)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(self._current(), self.base_lrs, strict=True)]
        ratio = (1 + math.cos(turn * self.last_epoch)) / (1 + math.cos(turn * (self.last_epoch - 1)))
        return [ratio * (lr - self.eta_min) + self.eta_min for lr in self._current()]


class SequentialLR(LRScheduler):
    """One schedule after the other, each from its own epoch 0, as SequentialLR of PyTorch.

    Args:
        optimizer: The Optimizer whose groups are changed.
        schedulers: The schedules, all of this optimiser.
        milestones: The epochs at which the second and all further ones begin.
        last_epoch: The last epoch of an interrupted run, or -1 to begin.

    Raises:
        ShapeError: There are no schedules, not one milestone between each two, or one of another optimiser.
        DTypeError: A schedule cannot be stepped without a metric, or is none.
    """

    def __init__(self, optimizer, schedulers, milestones, last_epoch=-1):
        self.optimizer = checked_optimizer(optimizer, "SequentialLR")
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ShapeError(
                "SequentialLR", "milestones", f"{len(milestones)} for {len(schedulers)} schedules",
                "one between each two schedules",
            )  # fmt: skip
        for schedule in schedulers:
            if not isinstance(schedule, LRScheduler):
                raise DTypeError("SequentialLR", "schedulers", describe(schedule), "schedules that need no metric")
            if schedule.optimizer is not optimizer:
                raise ShapeError("SequentialLR", "schedulers", "one of another optimiser", "those of this optimiser")
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._undo()
        self._begin()

    def _undo(self):
        """Take back the first step of every schedule: each made it when it was built."""
        for schedule in self._schedulers:
            if isinstance(schedule, SequentialLR):
                schedule._undo()
            schedule.last_epoch -= 1

    def _begin(self):
        self.last_epoch += 1
        self._schedulers[bisect_right(self._milestones, 0)]._begin()

    def _restart(self):
        self.last_epoch = 0
        self._schedulers[bisect_right(self._milestones, 0)]._restart()

    def get_last_lr(self):
        """The rate of each group as the last step set it."""
        return self._schedulers[bisect_right(self._milestones, self.last_epoch)].get_last_lr()

    def step(self):
        """Go on by one epoch, with the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            self._schedulers[turn]._restart()
        else:
            self._schedulers[turn].step()

    def state_dict(self):
        """Everything but the optimiser, that of every schedule included."""
        return {**super().state_dict(), "_schedulers": [schedule.state_dict() for schedule in self._schedulers]}

    def load_state_dict(self, state_dict):
        """Go on where the schedule stood that state_dict came from; the rates are the optimiser's state."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for schedule, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            schedule.load_state_dict(state)


def checked_optimizer(optimizer, name):
    """optimizer itself, refused if it is none."""
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(name, "optimizer", describe(optimizer), "an Optimizer")
    return optimizer


def per_group(optimizer, name, argument, value):
    """value as a list of one a group."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ShapeError(name, argument, f"{len(value)} values", f"{groups}, one a group")
    return list(value)


def _check_count(name, argument, value):
    if value < 1:
        raise ShapeError(name, argument, value, "at least 1")


def _attributes(function):
    """What there is to save of a function: the attributes of an object, nothing of a plain function."""
    return None if hasattr(function, "__code__") else dict(getattr(function, "__dict__", {}))
