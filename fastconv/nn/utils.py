"""What training loops do to gradients and parameters as a whole."""

from fastconv.autograd import Tensor, accumulator_norm
