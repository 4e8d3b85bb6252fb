"""Batch normalisation layers, 1-D to 3-D."""

import numpy

from fastconv import functional
from fastconv.errors import ShapeError
from fastconv.nn import init
from fastconv.nn.module import Module
from fastconv.nn.parameter import new_parameter
from fastconv.transfer import place
from fastconv.window import per_axis

_DOC = """Normalise each channel of {what} to mean 0 and variance 1, as torch.nn.BatchNorm{rank}d.

    In training the mean and variance are those of the batch, and the running ones move towards them
    (the variance by its unbiased estimate); in evaluation the running ones are used.

    Args:
        num_features: C, channels of the input.
        eps: Added to the variance.
        momentum: Share of the batch in the updated running statistics; None averages all batches alike.
        affine: Whether a weight and a bias a channel are learned.
        track_running_stats: Whether running statistics are kept; without, evaluation uses the batch's too.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of parameters and running statistics; None is float32.

    Shape:
        {shape} in, the same out. weight, bias, running_mean and running_var are [C],
        num_batches_tracked is an int64 without axes.

    Raises:
        ShapeError: num_features is negative.
        DTypeError: num_features is no int, or dtype is not floating.

    Source: Ioffe & Szegedy, arXiv:1502.03167.
    """


class _BatchNorm(Module):
    _optional_keys = ("num_batches_tracked",)

    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None
    ):
        super().__init__()
        (self.num_features,) = per_axis(type(self).__name__, "num_features", num_features, 1, least=0)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        for name in ("weight", "bias"):
            self.register_parameter(name, new_parameter(shape, device, dtype) if affine else None)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, new_parameter(shape, device, dtype).data if track_running_stats else None)
        counter = place(numpy.zeros((), numpy.int64), device)
        self.register_buffer("num_batches_tracked", counter if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget the batches seen so far."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self):
        """Forget the batches seen so far and what was learned: weight 1, bias 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input):
        if getattr(input, "ndim", self._axes[0]) not in self._axes:  # what is no array is refused below
            raise ShapeError(
                type(self).__name__, "input", f"{input.ndim} axes {list(input.shape)}",
                f"{' or '.join(map(str, self._axes))} axes",
            )  # fmt: skip
        counting = self.training and self.track_running_stats and self.num_batches_tracked is not None
        share = self.momentum
        if share is None:
            share = 1 / (self.num_batches_tracked.item() + 1) if counting else 0.0
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        running = not self.training or self.track_running_stats
        mean, variance = (self.running_mean, self.running_var) if running else (None, None)
        y = functional.batch_norm(input, mean, variance, self.weight, self.bias, by_batch, share, self.eps)
        if counting:
            self.num_batches_tracked.data[...] += 1
        return y

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    __doc__ = _DOC.format(rank=1, what="features or sequences", shape="[N, C] or [N, C, L]")
    _axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _DOC.format(rank=2, what="images", shape="[N, C, H, W]")
    _axes = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _DOC.format(rank=3, what="volumes", shape="[N, C, D, H, W]")
    _axes = (5,)
