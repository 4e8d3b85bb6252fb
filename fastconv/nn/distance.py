"""Similarity and distance of vectors as modules."""

from fastconv import functional
from fastconv.nn.module import Module


class CosineSimilarity(Module):
    """The cosine of the angle between vectors, as torch.nn.CosineSimilarity.

    Args:
        dim: The axis of the vectors.
        eps: Least length to divide by.

    Shape:
        Two that broadcast in, that shape without the axis out.
    """

    def __init__(self, dim=1, eps=1e-8):
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1, x2):
        return functional.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of the difference of vectors, as torch.nn.PairwiseDistance.

    Args:
        p: Exponent of the norm.
        eps: Added to every difference.
        keepdim: Whether the last axis stays, with size 1.

    Shape:
        Two that broadcast in, that shape without its last axis out.
    """

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1, x2):
        return functional.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
