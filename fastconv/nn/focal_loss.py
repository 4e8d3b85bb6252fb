"""Focal losses as modules."""

from fastconv import functional
from fastconv.nn.loss_base import Loss


class FocalLoss(Loss):
    """Cross-entropy of classes with each term times (1 - p) ** gamma, p being the probability of the class.

    Args:
        weight: [C], factor of each class; or None.
        ignore_index: An integer in the target that does not count.
        reduction: "mean" weighted by the classes, "sum", or "none".
        gamma: Power of the modulating factor; with 0 it is CrossEntropyLoss.

    Shape:
        input scores [N, C, ...]; target classes [N, ...] or [N, 1, ...], or the shape of input; a number out, or
        [N, ...] with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", *, gamma=2.0):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.gamma = gamma

    def forward(self, input, target):
        return functional.focal_loss(
            input, target, self._array("weight"), self.ignore_index, self.reduction, gamma=self.gamma
        )


class SigmoidFocalLoss(Loss):
    """Focal loss of one class, or of classes that exclude none, from scores.

    Args:
        alpha: Factor of what is present, 0 to 1; -1 for no factors.
        gamma: Power of the modulating factor.
        reduction: "mean" or "sum" over all elements, or "none".

    Shape:
        input and target of the same shape in; a number out, or that shape with "none".

    Raises:
        ShapeError: reduction is none of these.
    """

    def __init__(self, alpha=0.25, gamma=2.0, reduction="mean"):
        super().__init__(reduction)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, input, target):
        return functional.sigmoid_focal_loss(input, target, self.alpha, self.gamma, self.reduction)
