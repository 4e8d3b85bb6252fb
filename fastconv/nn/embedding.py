"""A table of rows as a module."""

from fastconv import functional
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.nn import init
from fastconv.nn.module import Module
from fastconv.nn.parameter import Parameter, new_parameter
from fastconv.window import per_axis


class Embedding(Module):
    """Rows of a table by their number, as torch.nn.Embedding.

    Args:
        num_embeddings: How many rows.
        embedding_dim: Their length.
        padding_idx: A row that starts as zeros and gets no gradient; or None.
        max_norm: Rows that are used and longer than this are scaled to it first; or None.
        norm_type: Exponent of the norm that max_norm limits.
        scale_grad_by_freq: Whether to divide the gradient of a row by how often it is used.
        sparse: Refused when it is called: gradients are dense.
        _weight: The table, instead of one that is drawn.
        _freeze: Whether the table is not learnt.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        Numbers of any shape in, that shape and [embedding_dim] out; weight is [num_embeddings, embedding_dim].

    Raises:
        ShapeError: padding_idx is out of range, a size negative, or _weight of another shape.
        DTypeError: A size is no int, or dtype is not floating.
    """

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
        _weight=None,
        _freeze=False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        (self.num_embeddings,) = per_axis("Embedding", "num_embeddings", num_embeddings, 1, least=0)
        (self.embedding_dim,) = per_axis("Embedding", "embedding_dim", embedding_dim, 1, least=0)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                expected = f"{-num_embeddings} to {num_embeddings - 1}"
                raise ShapeError("Embedding", "padding_idx", padding_idx, expected)
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape = (self.num_embeddings, self.embedding_dim)
        if _weight is None:
            self.weight = new_parameter(shape, device, dtype)
            self.weight.requires_grad = not _freeze
            self.reset_parameters()
        else:
            if raw(_weight).shape != shape:
                raise ShapeError("Embedding", "_weight", list(raw(_weight).shape), list(shape))
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    def reset_parameters(self):
        """Draw new rows, normal of variance 1, and zeros for padding_idx, as PyTorch does."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, input):
        return functional.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self):
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        usual = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False, "sparse": False}
        return text + "".join(f", {k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v)

    @classmethod
    def from_pretrained(
        cls,
        embeddings,
        freeze=True,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
    ):
        """A layer of a table that is there already.

        Args:
            embeddings: The table, [num_embeddings, embedding_dim]; it is not copied.
            freeze: Whether it is not learnt.
            padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse: As for the class.

        Returns:
            The layer.

        Raises:
            ShapeError: embeddings has another number of axes.
        """
        if raw(embeddings).ndim != 2:
            raise ShapeError("Embedding", "embeddings", list(raw(embeddings).shape), "2 axes")
        return cls(
            *raw(embeddings).shape, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze
        )
