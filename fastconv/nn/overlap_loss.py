"""Losses of overlap as modules."""

from fastconv import functional
from fastconv.nn.loss_base import Loss


class _OverlapLoss(Loss):
    def __init__(self, weight, ignore_index, reduction, **options):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, input, target):
        options = {name: getattr(self, name) for name in self._options}
        return self._function(input, target, self._array("weight"), self.ignore_index, self.reduction, **options)


class DiceLoss(_OverlapLoss):
    """1 - 2 * sum(p * t) / (sum(p) + sum(t)), p being probabilities and t what they should be.

    Args:
        weight: [C], factor of the loss of each class; or None.
        ignore_index: An integer in the target whose elements do not count.
        reduction: "mean" or "sum" over samples and classes, or "none".
        include_background: False leaves class 0 out, unless it is the only one.
        sigmoid: Whether to take the sigmoid of input first.
        softmax: Whether to take the softmax of input over the classes first.
        squared_pred: Whether to add up squares in the denominator.
        jaccard: Whether to divide what both share by what either has: one less the index of Jaccard.
        smooth_nr, smooth_dr: Added to numerator and denominator.
        batch: Whether to add up the samples of a batch before dividing.

    Shape:
        input [N, C, ...]; target classes [N, ...] or [N, 1, ...], or the shape of input; a number out, or with
        "none" [N, C], with batch [C].

    Raises:
        ShapeError: reduction is none of these.
    """

    _function = staticmethod(functional.dice_loss)

    def __init__(
        self,
        weight=None,
        ignore_index=-100,
        reduction="mean",
        *,
        include_background=True,
        sigmoid=False,
        softmax=False,
        squared_pred=False,
        jaccard=False,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
        batch=False,
    ):
        super().__init__(
            weight, ignore_index, reduction, include_background=include_background, sigmoid=sigmoid, softmax=softmax,
            squared_pred=squared_pred, jaccard=jaccard, smooth_nr=smooth_nr, smooth_dr=smooth_dr, batch=batch,
        )  # fmt: skip


class TverskyLoss(_OverlapLoss):
    """1 - TP / (TP + alpha * FP + beta * FN), raised to gamma: the sums of p * t, p * (1 - t) and (1 - p) * t.

    Args:
        weight: [C], factor of the loss of each class; or None.
        ignore_index: An integer in the target whose elements do not count.
        reduction: "mean" or "sum" over samples and classes, or "none".
        alpha: How much false positives count.
        beta: How much false negatives count.
        gamma: Power of each loss; other than 1 it is the focal Tversky loss, whose paper writes it 1 / gamma.
        include_background: False leaves class 0 out, unless it is the only one.
        sigmoid: Whether to take the sigmoid of input first.
        softmax: Whether to take the softmax of input over the classes first.
        smooth_nr, smooth_dr: Added to numerator and denominator.
        batch: Whether to add up the samples of a batch before dividing.

    Shape:
        input [N, C, ...]; target classes [N, ...] or [N, 1, ...], or the shape of input; a number out, or with
        "none" [N, C], with batch [C].

    Raises:
        ShapeError: reduction is none of these.
    """

    _function = staticmethod(functional.tversky_loss)

    def __init__(
        self,
        weight=None,
        ignore_index=-100,
        reduction="mean",
        *,
        alpha=0.5,
        beta=0.5,
        gamma=1.0,
        include_background=True,
        sigmoid=False,
        softmax=False,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
        batch=False,
    ):
        super().__init__(
            weight, ignore_index, reduction, alpha=alpha, beta=beta, gamma=gamma, include_background=include_background,
            sigmoid=sigmoid, softmax=softmax, smooth_nr=smooth_nr, smooth_dr=smooth_dr, batch=batch,
        )  # fmt: skip
