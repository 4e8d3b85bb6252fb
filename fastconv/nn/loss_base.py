"""What loss functions have in common as modules."""

from fastconv.functional.operands import REDUCTIONS, as_reduction
from fastconv.nn.module import Module


class Loss(Module):
    """A loss that brings its values together by a reduction; PyTorch's older spelling of it is understood."""

    _reductions = REDUCTIONS

    def __init__(self, reduction="mean", size_average=None, reduce=None):
        super().__init__()
        self.reduction = as_reduction(type(self).__name__, reduction, size_average, reduce, self._reductions)

    def _array(self, name):
        """The plain array of a buffer, so that a loss of arrays is an array."""
        buffer = getattr(self, name)
        return None if buffer is None else buffer.data
