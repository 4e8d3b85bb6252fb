"""Losses of how far a segmentation and its target overlap, for images and volumes, of one class or of many.

Sources: Dice: Milletari, Navab & Ahmadi, V-Net, arXiv:1606.04797; Tversky: Salehi, Erdogmus & Gholipour,
arXiv:1706.05721, and its focal form Abraham & Khan, arXiv:1810.07842. PyTorch has neither; the options are those that
toolkits for medical images share.
"""

import math

from fastconv.arrays import describe
from fastconv.autograd import Tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.class_target import class_factors, power, scores, shares, wide
from fastconv.functional.elementwise import cast, masked, mul, sigmoid
from fastconv.functional.indexing import getitem
from fastconv.functional.operands import as_reduction, is_number, number
from fastconv.functional.reduction import mean, sum
from fastconv.functional.softmax import softmax

_DOC = """{what}.

    Args:
        input: Probabilities, [N, C, ...]; scores with sigmoid or softmax.
        target: Classes, integers [N, ...] or [N, 1, ...]; or how far each belongs to each class, integers, bools or
            floats of the shape of input. One channel alone is the probability of a foreground that the target is 1 in.
        weight: [C], factor of the loss of each class; or None.
        ignore_index: An integer in target whose elements do not count.
        reduction: "mean" or "sum" over samples and classes, or "none".{args}
        include_background: False leaves class 0 out, unless it is the only one.
        sigmoid: Whether to take the sigmoid of input first.
        softmax: Whether to take the softmax of input over the classes first.
        smooth_nr, smooth_dr: Added to numerator and denominator, so that nothing divided by nothing is 1.
        batch: Whether to add up the samples of a batch before dividing.

    Returns:
        A number, or with "none" [N, C], with batch [C], without class 0 if that is left out; dtype of input; a
        Tensor if an argument is one.

    Raises:
        ShapeError: Shapes disagree, an option is none or contradicts another, or on the CPU a class is out of range;
            on a GPU, where nobody waits for the answer, the loss of such a class is NaN.
        DTypeError: input is no array of floats, another dtype is of the wrong kind, or an option no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """


def dice_loss(
    input,
    target,
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
    overlap = _Overlap("dice_loss", input, target, weight, ignore_index, reduction, smooth_nr, smooth_dr)
    both, p, t = overlap.sums(include_background, sigmoid, softmax, batch, squared_pred)
    union = (p + t - both) * 2.0 if jaccard else p + t
    return overlap.finished(1.0 - (both * 2.0 + overlap.smooth_nr) / (union + overlap.smooth_dr))


def tversky_loss(
    input,
    target,
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
    overlap = _Overlap("tversky_loss", input, target, weight, ignore_index, reduction, smooth_nr, smooth_dr)
    alpha, beta, gamma = (
        overlap.option(argument, value) for argument, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma))
    )
    both, p, t = overlap.sums(include_background, sigmoid, softmax, batch, False)
    union = both * (1.0 - alpha - beta) + p * alpha + t * beta
    losses = 1.0 - (both + overlap.smooth_nr) / (union + overlap.smooth_dr)
    return overlap.finished(losses if gamma == 1 else power(losses, gamma))


dice_loss.__doc__ = _DOC.format(
    what="1 - 2 * sum(p * t) / (sum(p) + sum(t)), p being probabilities and t what they should be",
    args="""
        squared_pred: Whether to add up squares in the denominator.
        jaccard: Whether to divide what both share by what either has: one less the index of Jaccard.""",
)
tversky_loss.__doc__ = _DOC.format(
    what="""1 - TP / (TP + alpha * FP + beta * FN), raised to gamma, of the sums of p * t, p * (1 - t) and (1 - p) * t

    p are probabilities and t what they should be. 0.5 twice is dice_loss""",
    args="""
        alpha: How much false positives count.
        beta: How much false negatives count.
        gamma: Power of each loss; other than 1 it is the focal Tversky loss, whose paper writes it 1 / gamma.""",
)


class _Overlap:
    """The checked arguments of a loss, and what the losses have in common."""

    def __init__(self, name, input, target, weight, ignore_index, reduction, smooth_nr, smooth_dr):
        self.name, self.operands = name, (input, target, weight)
        self.reduction = as_reduction(name, reduction)
        self.x = scores(name, input)
        self.smooth_nr, self.smooth_dr = self.option("smooth_nr", smooth_nr), self.option("smooth_dr", smooth_dr)
        self.target, self.counted = shares(name, self.x, target, ignore_index)
        self.weight = None if weight is None else class_factors(name, weight, self.x)

    def option(self, argument, value):
        if not is_number(value):
            raise DTypeError(self.name, argument, describe(value), "a number")
        if not 0 <= value < math.inf:
            raise ShapeError(self.name, argument, value, "at least 0")
        return number(value)

    def sums(self, include_background, by_sigmoid, by_softmax, batch, squared):
        """Sums of p * t, of p and of t, or of their squares, for each sample and class or for each class."""
        classes = self.x.shape[1]
        if by_sigmoid and by_softmax:
            raise ShapeError(self.name, "softmax", True, "False beside sigmoid=True")
        if by_softmax and classes == 1:
            raise ShapeError(self.name, "softmax", True, "more than one class", "use sigmoid=True")
        p, t = wide(self.operands[0], self.x.dtype), self.target
        if self.counted is not None:
            p, t = masked(p, self.counted), masked(t, self.counted)
        if by_sigmoid or by_softmax:
            p = sigmoid(p) if by_sigmoid else softmax(p, 1)
            p = p if self.counted is None else masked(p, self.counted)
        if not include_background and classes > 1:
            later = (slice(None), slice(1, None))
            p, t = getitem(p, later), getitem(t, later)
            self.weight = None if self.weight is None else getitem(self.weight, slice(1, None))
        axes = (() if not batch else (0,)) + tuple(range(2, p.ndim))

        def total(v):
            return sum(v, axes) if axes else v

        return total(mul(p, t)), total(mul(p, p) if squared else p), total(mul(t, t) if squared else t)

    def finished(self, losses):
        if self.weight is not None:
            losses = losses * self.weight
        if self.reduction != "none":
            losses = (mean if self.reduction == "mean" else sum)(losses)
        y = cast(losses, self.x.dtype.newbyteorder("="))
        return y if any(isinstance(v, Tensor) for v in self.operands) else y.data
