"""A learning rate that goes down when a metric stops improving."""

import math

from fastconv.arrays import describe
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.optim.schedule import checked_optimizer, per_group


class ReduceLROnPlateau:
    """Multiply by factor when a metric has not improved for a while, as ReduceLROnPlateau of PyTorch.

    Args:
        optimizer: The Optimizer whose groups are changed.
        mode: "min" where a smaller metric is better, or "max".
        factor: What the rate is multiplied by, below 1.
        patience: Epochs without improvement that are let pass.
        threshold: The least change that is an improvement.
        threshold_mode: "rel" for a threshold that is a share of the best metric, "abs" for one that is a difference.
        cooldown: Epochs after a change in which nothing is counted.
        min_lr: The smallest rate, or a list of one a group.
        eps: A change of the rate that is not worth making.

    Attributes:
        best: The best metric so far.
        last_epoch: How many steps were made.

    Raises:
        ShapeError: An option is out of range, or min_lr has not one value a group.
        DTypeError: optimizer is no Optimizer.
    """

    def __init__(
        self, optimizer, mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel", cooldown=0,
        min_lr=0, eps=1e-8,
    ):  # fmt: skip
        if mode not in ("min", "max"):
            raise ShapeError("ReduceLROnPlateau", "mode", repr(mode), '"min" or "max"')
        if threshold_mode not in ("rel", "abs"):
            raise ShapeError("ReduceLROnPlateau", "threshold_mode", repr(threshold_mode), '"rel" or "abs"')
        if not factor < 1:
            raise ShapeError("ReduceLROnPlateau", "factor", factor, "below 1")
        self.optimizer = checked_optimizer(optimizer, "ReduceLROnPlateau")
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = per_group(optimizer, "ReduceLROnPlateau", "min_lr", min_lr)
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    def step(self, metrics):
        """Go on by one epoch.

        Args:
            metrics: The metric of this epoch: a number, or a Tensor or array of one element.

        Raises:
            DTypeError: metrics is none of these.
        """
        try:
            current = float(metrics)
        except (TypeError, ValueError):
            raise DTypeError("ReduceLROnPlateau", "metrics", describe(raw(metrics)), "a number") from None
        self.last_epoch += 1
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _is_better(self, current):
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * current < sign * self.best * (1 - sign * self.threshold)
        return sign * current < sign * self.best - self.threshold

    def _reduce(self):
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, least)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def get_last_lr(self):
        """The rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self):
        """Everything but the optimiser, for load_state_dict()."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict):
        """Go on where the schedule stood that state_dict came from; the rates are the optimiser's state."""
        vars(self).update(state_dict)
