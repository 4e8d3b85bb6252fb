"""The layer of local response normalisation."""

from fastconv import functional
from fastconv.nn.module import Module


class LocalResponseNorm(Module):
    """Divide by a power of the mean square of neighbouring channels, as torch.nn.LocalResponseNorm.

    Args:
        size: How many neighbouring channels count, input's own among them.
        alpha: What the mean of their squares is multiplied by.
        beta: Exponent.
        k: Added to the mean.

    Shape:
        [N, C, ...] in, the same out.

    Source: Krizhevsky, Sutskever & Hinton, NeurIPS 2012, section 3.3.
    """

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input):
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
