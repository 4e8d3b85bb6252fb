"""Loss functions as modules."""

import warnings

from fastconv import functional
from fastconv.errors import ShapeError
from fastconv.functional.operands import REDUCTIONS
from fastconv.nn.loss_base import Loss


class MSELoss(Loss):
    """(input - target) squared, as torch.nn.MSELoss.

    Args:
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)

    def forward(self, input, target):
        return functional.mse_loss(input, target, reduction=self.reduction)


class L1Loss(Loss):
    """Absolute value of input - target, as torch.nn.L1Loss.

    Args:
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)

    def forward(self, input, target):
        return functional.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(Loss):
    """Squared within beta, linear outside, as torch.nn.SmoothL1Loss.

    With d = abs(input - target): d * d / (2 * beta) where d < beta, otherwise d - beta / 2.

    Args:
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".
        beta: Where the two meet; 0 gives L1Loss.

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean", beta=1.0):
        super().__init__(reduction, size_average, reduce)
        self.beta = beta

    def forward(self, input, target):
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(Loss):
    """Squared within delta, linear outside, as torch.nn.HuberLoss.

    With d = abs(input - target): d * d / 2 where d < delta, otherwise delta * (d - delta / 2).

    Args:
        reduction: "mean" or "sum" over all elements, or "none".
        delta: Where the two meet; above 0.

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input, target):
        return functional.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class NLLLoss(Loss):
    """Negative log-likelihood of classes, of log-probabilities, as torch.nn.NLLLoss.

    Args:
        weight: [C], how much each class counts, or None for all alike.
        size_average, reduce: The older spelling of reduction.
        ignore_index: A class that does not count.
        reduction: "mean" weighted by the classes, "sum", or "none".

    Shape:
        input [N, C] or [N, C, ...], target [N] or [N, ...] of integers; a number out, or the
        shape of target with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return functional.nll_loss(
            input, target, weight=self._array("weight"), ignore_index=self.ignore_index, reduction=self.reduction
        )


class NLLLoss2d(NLLLoss):
    """NLLLoss by an older name, as torch.nn.NLLLoss2d, which says so with a FutureWarning.

    Args:
        weight, size_average, ignore_index, reduce, reduction: As of NLLLoss.
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        warnings.warn("NLLLoss2d has been deprecated. Please use NLLLoss instead.", FutureWarning, stacklevel=2)
        super().__init__(weight, size_average, ignore_index, reduce, reduction)


class CrossEntropyLoss(Loss):
    """Cross-entropy of classes, of unnormalised scores, as torch.nn.CrossEntropyLoss.

    Args:
        weight: [C], how much each class counts, or None for all alike.
        size_average, reduce: The older spelling of reduction.
        ignore_index: A class that does not count.
        reduction: "mean" weighted by the classes, "sum", or "none".
        label_smoothing: Share of the target that is spread over all classes, 0 to 1.

    Shape:
        input [C], [N, C] or [N, C, ...]; target [], [N] or [N, ...] of integers, or probabilities
        of the shape of input; a number out, or one value a target with "none".

    Raises:
        ShapeError: reduction is none of these, or label_smoothing is no share.
    """

    def __init__(
        self,
        weight=None,
        size_average=None,
        ignore_index=-100,
        reduce=None,
        reduction="mean",
        label_smoothing=0.0,
    ):
        super().__init__(reduction, size_average, reduce)
        if not 0 <= label_smoothing <= 1:
            raise ShapeError("CrossEntropyLoss", "label_smoothing", label_smoothing, "0 to 1")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input, target):
        return functional.cross_entropy(
            input, target, weight=self._array("weight"), ignore_index=self.ignore_index,
            reduction=self.reduction, label_smoothing=self.label_smoothing,
        )  # fmt: skip


class BCELoss(Loss):
    """Binary cross-entropy of probabilities, as torch.nn.BCELoss.

    Args:
        weight: How much each element counts, broadcast against input; or None.
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        input, of values 0 to 1, and target of the same shape in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.register_buffer("weight", weight)

    def forward(self, input, target):
        return functional.binary_cross_entropy(input, target, weight=self._array("weight"), reduction=self.reduction)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of unnormalised scores, as torch.nn.BCEWithLogitsLoss.

    Args:
        weight: How much each element counts, broadcast against input; or None.
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".
        pos_weight: How much the positive targets count, broadcast against input; or None.

    Shape:
        input and target of the same shape in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
        super().__init__(reduction, size_average, reduce)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input, target):
        return functional.binary_cross_entropy_with_logits(
            input, target, weight=self._array("weight"), reduction=self.reduction,
            pos_weight=self._array("pos_weight"),
        )  # fmt: skip


class KLDivLoss(Loss):
    """The Kullback-Leibler divergence of log-probabilities from probabilities, as torch.nn.KLDivLoss.

    Args:
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, "batchmean", the sum over the first size of input, or "none".
        log_target: Whether targets are log-probabilities too.

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    _reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, size_average=None, reduce=None, reduction="mean", log_target=False):
        super().__init__(reduction, size_average, reduce)
        self.log_target = log_target

    def forward(self, input, target):
        return functional.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(Loss):
    """The negative log-likelihood of counts under Poisson distributions, as torch.nn.PoissonNLLLoss.

    Args:
        log_input: Whether inputs are the logarithms of the expectations.
        full: Whether to add Stirling's approximation of the logarithm of the target's factorial.
        size_average, reduce: The older spelling of reduction.
        eps: Added to the expectations before their logarithm is taken, unless log_input.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, log_input, target):
        return functional.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )


class GaussianNLLLoss(Loss):
    """The negative log-likelihood under normal distributions, as torch.nn.GaussianNLLLoss.

    Args:
        full: Whether to add log(2 pi) / 2.
        eps: Least variance.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        input and target of one shape and var of the same, with one size of 1, without the last axis, or a float, in;
        a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, *, full=False, eps=1e-6, reduction="mean"):
        super().__init__(reduction)
        self.full = full
        self.eps = eps

    def forward(self, input, target, var):
        return functional.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class SoftMarginLoss(Loss):
    """log(1 + exp(-target * input)) of targets 1 and -1, as torch.nn.SoftMarginLoss.

    Args:
        size_average, reduce: The older spelling of reduction.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        Any and the same in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)

    def forward(self, input, target):
        return functional.soft_margin_loss(input, target, reduction=self.reduction)
