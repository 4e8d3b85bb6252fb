"""One cycle of the learning rate: up, down and far down again."""

import math
from bisect import bisect_left

from fastconv.arrays import describe
from fastconv.errors import DTypeError, ShapeError
from fastconv.optim.schedule import LRScheduler, checked_optimizer, per_group


class OneCycleLR(LRScheduler):
    """Up to max_lr and down to almost nothing, once, momentum the other way, as OneCycleLR of PyTorch.

    It is stepped after every batch.

    Args:
        optimizer: The Optimizer whose groups are changed.
        max_lr: The largest rate, or a list of one a group.
        total_steps: Steps of the whole cycle; None is epochs * steps_per_epoch.
        epochs, steps_per_epoch: Used where total_steps is None.
        pct_start: Share of the steps that go up, 0 to 1.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: Whether momentum, or the first of betas, goes down while the rate goes up.
        base_momentum: The smallest momentum, or a list of one a group.
        max_momentum: The largest momentum, or a list of one a group.
        div_factor: max_lr over the rate of the beginning.
        final_div_factor: The rate of the beginning over that of the end.
        three_phase: Whether to go down to the rate of the beginning first, as fast as up, and then to the end's.
        last_epoch: The last step of an interrupted run, or -1 to begin.

    Raises:
        ShapeError: A number is out of range, or a list has not one value a group.
        DTypeError: optimizer is no Optimizer, or knows no momentum to cycle.

    Source: Smith & Topin, arXiv:1708.07120.
    """

    def __init__(
        self, optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3,
        anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0,
        final_div_factor=1e4, three_phase=False, last_epoch=-1,
    ):  # fmt: skip
        checked_optimizer(optimizer, "OneCycleLR")
        if total_steps is None:
            _check_whole("epochs", epochs)
            _check_whole("steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        _check_whole("total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ShapeError("OneCycleLR", "pct_start", pct_start, "0 to 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ShapeError("OneCycleLR", "anneal_strategy", repr(anneal_strategy), '"cos" or "linear"')
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self._phases = _phases(total_steps, pct_start, three_phase)
        largest = per_group(optimizer, "OneCycleLR", "max_lr", max_lr)
        for group, lr in zip(optimizer.param_groups, largest, strict=True):
            if last_epoch == -1:
                group.update(initial_lr=lr / div_factor, max_lr=lr, min_lr=lr / div_factor / final_div_factor)
        if cycle_momentum:
            self._find_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _find_momentum(self, optimizer, base_momentum, max_momentum, last_epoch):
        """Note what the optimiser calls its momentum, and the range of each group."""
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise DTypeError("OneCycleLR", "optimizer", type(optimizer).__name__, "one with momentum or betas")
        self._uses_betas = "betas" in optimizer.defaults
        least = per_group(optimizer, "OneCycleLR", "base_momentum", base_momentum)
        most = per_group(optimizer, "OneCycleLR", "max_momentum", max_momentum)
        for group, low, high in zip(optimizer.param_groups, least, most, strict=True):
            if last_epoch == -1:
                group.update(base_momentum=low, max_momentum=high)

    def get_lr(self):
        if self.last_epoch > self.total_steps:
            raise ShapeError("OneCycleLR", "step", f"step {self.last_epoch}", f"{self.total_steps} steps at most")
        ends = [end for end, _, _ in self._phases]
        phase = min(bisect_left(ends, self.last_epoch), len(ends) - 1)
        begin = ends[phase - 1] if phase > 0 else 0.0
        end, (lr_from, lr_to), (momentum_from, momentum_to) = self._phases[phase]
        share = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0  # a phase of one step ends at once
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[lr_from], group[lr_to], share))
            if self.cycle_momentum:
                momentum = self._between(group[momentum_from], group[momentum_to], share)
                known = {"betas": (momentum, *group["betas"][1:])} if self._uses_betas else {"momentum": momentum}
                group.update(known)
        return rates

    def _lr_at_start(self):
        return self.get_lr()

    def _between(self, start, end, share):
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)


def _phases(total_steps, pct_start, three_phase):
    """(last step, keys of a group between which the rate moves, those between which momentum moves) a phase."""
    top = pct_start * total_steps - 1
    up, down = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
    first = (top, ("initial_lr", "max_lr"), up)
    if not three_phase:
        return (first, (total_steps - 1, ("max_lr", "min_lr"), down))
    return (
        first,
        (2 * top, ("max_lr", "initial_lr"), down),
        (total_steps - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum")),
    )


def _check_whole(argument, value):
    if not isinstance(value, int):
        raise DTypeError(
            "OneCycleLR", argument, describe(value), "an int", "give total_steps, or epochs and steps_per_epoch"
        )
    if value < 1:
        raise ShapeError("OneCycleLR", argument, value, "at least 1")
