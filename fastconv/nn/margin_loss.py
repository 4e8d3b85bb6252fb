"""Losses with a margin as modules."""

from fastconv import functional
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.nn.distance import PairwiseDistance
from fastconv.nn.loss_base import Loss

_OLDER = "size_average, reduce: PyTorch's older spelling of reduction, which decides where one is given."
_DOC = """{what}, as torch.nn.{name}.

    Args:
        {args}{older}reduction: "mean", "sum" or "none".

    Shape:
        {shape}; a number out, or with "none" one value a pair or sample.

    Raises:
        ShapeError: {refused}reduction is none of these.
    """


def _documented(what, shape, *args, refused="", older=_OLDER + "\n        "):
    def decorate(cls):
        words = "".join(f"{arg}\n        " for arg in args)
        cls.__doc__ = _DOC.format(what=what, name=cls.__name__, args=words, older=older, shape=shape, refused=refused)
        return cls

    return decorate


_MARGIN = "margin: How far apart they shall be."
_SWAP = "swap: Whether the distance of positive and negative counts if it is the smaller."


@_documented("max(0, -target * (input1 - input2) + margin)", "input1, input2 and target of as many axes in", _MARGIN)
class MarginRankingLoss(Loss):
    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.margin = margin

    def forward(self, input1, input2, target):
        return functional.margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


@_documented(
    "input where target is 1 and max(0, margin - input) where it is -1", "input and target that broadcast in", _MARGIN
)
class HingeEmbeddingLoss(Loss):
    def __init__(self, margin=1.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.margin = margin

    def forward(self, input, target):
        return functional.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


@_documented(
    "1 - cos where target is 1 and max(0, cos - margin) where it is -1, of the angle between two vectors",
    "input1, input2 [N, L] and target [N] in, or [L] and no axes", _MARGIN,
)  # fmt: skip
class CosineEmbeddingLoss(Loss):
    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.margin = margin

    def forward(self, input1, input2, target):
        return functional.cosine_embedding_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


def _check_margin(name, margin):
    if not margin > 0:
        raise ShapeError(name, "margin", margin, "more than 0")


_TRIPLET = "anchor, positive and negative of as many axes in, vectors along the last one"


@_documented(
    "max(0, margin + distance(anchor, positive) - distance(anchor, negative))", _TRIPLET, _MARGIN,
    "p: Exponent of the norm that is the distance.", "eps: Added to every difference.", _SWAP,
    refused="margin is not positive, or ",
)  # fmt: skip
class TripletMarginLoss(Loss):
    def __init__(self, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        _check_margin("TripletMarginLoss", margin)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor, positive, negative):
        return functional.triplet_margin_loss(
            anchor, positive, negative, margin=self.margin, p=self.p, eps=self.eps, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip


@_documented(
    "max(0, margin + distance_function(anchor, positive) - distance_function(anchor, negative))", _TRIPLET,
    "distance_function: Function of two Tensors, or None for PairwiseDistance.", _MARGIN, _SWAP,
    refused="margin is not positive, or ", older="",
)  # fmt: skip
class TripletMarginWithDistanceLoss(Loss):
    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        super().__init__(reduction)
        _check_margin("TripletMarginWithDistanceLoss", margin)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def forward(self, anchor, positive, negative):
        return functional.triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=self.distance_function, margin=self.margin, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip


@_documented(
    "The sum of max(0, margin - input[y] + input[i]) ** p over classes i other than y, over C",
    "input [N, C] and target [N] in, or [C] and no axes",
    "p: 1 or 2.", "margin: How much higher the score of the class shall be.", "weight: [C], factors, or None.",
    refused="p is neither 1 nor 2, weight has another number of axes, or ",
)  # fmt: skip
class MultiMarginLoss(Loss):
    def __init__(self, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        if p not in (1, 2):
            raise ShapeError("MultiMarginLoss", "p", p, "1 or 2")
        if weight is not None and raw(weight).ndim != 1:
            raise ShapeError("MultiMarginLoss", "weight", list(raw(weight).shape), "[C]")
        self.register_buffer("weight", weight)
        self.p, self.margin = p, margin

    def forward(self, input, target):
        return functional.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self._array("weight"), reduction=self.reduction
        )


@_documented(
    "The sum of max(0, 1 - input[y] + input[i]) over classes y that are present and i that are not, over C",
    "input and target, classes that -1 ends, both [N, C] or [C] in",
)
class MultiLabelMarginLoss(Loss):
    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)

    def forward(self, input, target):
        return functional.multilabel_margin_loss(input, target, reduction=self.reduction)


@_documented(
    "Binary cross-entropy of scores, averaged over the classes", "input and target, both [..., C] in",
    "weight: [C], factor of each class; or None.",
)  # fmt: skip
class MultiLabelSoftMarginLoss(Loss):
    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(reduction, size_average, reduce)
        self.register_buffer("weight", weight)

    def forward(self, input, target):
        return functional.multilabel_soft_margin_loss(
            input, target, weight=self._array("weight"), reduction=self.reduction
        )
