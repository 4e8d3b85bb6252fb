"""Dropout layers: zeros at random in training, the identity in evaluation."""

from fastconv import functional
from fastconv.errors import ShapeError
from fastconv.nn.module import Module


class _Dropout(Module):
    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ShapeError(type(self).__name__, "p", p, "a probability, 0 to 1")
        self.p = p
        self.inplace = inplace

    def forward(self, input):
        return self._function(input, self.p, self.training, self.inplace)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability p and scale the rest by 1 / (1 - p), as torch.nn.Dropout.

    Args:
        p: Probability of a zero.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.

    Raises:
        ShapeError: p is no probability.
    """

    _function = staticmethod(functional.dropout)


class AlphaDropout(_Dropout):
    """Set each element to what SELU tends to on the left with probability p, as torch.nn.AlphaDropout.

    Scaled and shifted so that mean 0 and variance 1 stay what they are.

    Args:
        p: Probability that an element is dropped.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.

    Raises:
        ShapeError: p is no probability.
    """

    _function = staticmethod(functional.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """Set whole channels to what SELU tends to on the left with probability p, as torch.nn.FeatureAlphaDropout.

    Scaled and shifted so that mean 0 and variance 1 stay what they are.

    Args:
        p: Probability that a channel is dropped.
        inplace: Whether the result may take the place of the input.

    Shape:
        [N, C, ...] in, the same out.

    Raises:
        ShapeError: p is no probability.
    """

    _function = staticmethod(functional.feature_alpha_dropout)


_CHANNELS_DOC = """Zero whole channels with probability p and scale the rest by 1 / (1 - p), as torch.nn.Dropout{rank}d.

    Args:
        p: Probability that a channel is zeroed.
        inplace: Whether the result may take the place of the input.

    Shape:
        [N, C, {size}] or [C, {size}] in, the same out.

    Raises:
        ShapeError: p is no probability.
    """


class Dropout1d(_Dropout):
    __doc__ = _CHANNELS_DOC.format(rank=1, size="L")
    _function = staticmethod(functional.dropout1d)


class Dropout2d(_Dropout):
    __doc__ = _CHANNELS_DOC.format(rank=2, size="H, W")
    _function = staticmethod(functional.dropout2d)


class Dropout3d(_Dropout):
    __doc__ = _CHANNELS_DOC.format(rank=3, size="D, H, W")
    _function = staticmethod(functional.dropout3d)
