"""Linear layers, and the modules that only change shapes."""

import math

from fastconv import functional
from fastconv.arrays import describe
from fastconv.errors import DTypeError
from fastconv.nn import init
from fastconv.nn.module import Module
from fastconv.nn.parameter import new_parameter
from fastconv.window import per_axis


class Identity(Module):
    """The input itself, as torch.nn.Identity.

    Args:
        *args, **kwargs: Ignored, so that it can stand in for any other module.

    Shape:
        Any in, the same out.
    """

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        return input


class Linear(Module):
    """x @ weight.T + bias, as torch.nn.Linear.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the result.
        bias: Whether a bias is added.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        [..., in_features] in, [..., out_features] out; weight is [out_features, in_features].

    Raises:
        ShapeError: A size is negative.
        DTypeError: A size is no int, or dtype is not floating.
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        (self.in_features,) = per_axis("Linear", "in_features", in_features, 1, least=0)
        (self.out_features,) = per_axis("Linear", "out_features", out_features, 1, least=0)
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new parameters, uniform within 1 / sqrt(in_features), as PyTorch does."""
        reset_uniform(self.weight, self.bias)

    def forward(self, input):
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """x1 @ weight[k] @ x2 + bias[k] for every k, as torch.nn.Bilinear.

    Args:
        in1_features: Size of the last axis of the first input.
        in2_features: Size of the last axis of the second input.
        out_features: Size of the last axis of the result.
        bias: Whether a bias is added.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the parameters; None is float32.

    Shape:
        [..., in1_features] and [..., in2_features] in, [..., out_features] out; weight is
        [out_features, in1_features, in2_features].

    Raises:
        ShapeError: in1_features is below 1, or another size negative.
        DTypeError: A size is no int, or dtype is not floating.
    """

    def __init__(self, in1_features, in2_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        (self.in1_features,) = per_axis("Bilinear", "in1_features", in1_features, 1, least=1)
        (self.in2_features,) = per_axis("Bilinear", "in2_features", in2_features, 1, least=0)
        (self.out_features,) = per_axis("Bilinear", "out_features", out_features, 1, least=0)
        self.weight = new_parameter((out_features, in1_features, in2_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new parameters, uniform within 1 / sqrt(in1_features), as PyTorch does."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1, input2):
        return functional.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self):
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """Make one axis of several neighbouring ones, as torch.nn.Flatten.

    Args:
        start_dim: First axis to join; by default all but the batch are joined.
        end_dim: Last axis to join.

    Shape:
        [N, *sizes] in, [N, product of sizes] out, by default.
    """

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input):
        return functional.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Make several axes of one, as torch.nn.Unflatten.

    Args:
        dim: The axis to split.
        unflattened_size: Sizes of the new axes; one of them may be -1.

    Shape:
        [..., size, ...] in, [..., *unflattened_size, ...] out.

    Raises:
        DTypeError: unflattened_size is no sequence of ints.
    """

    def __init__(self, dim, unflattened_size):
        super().__init__()
        sizes = unflattened_size if isinstance(unflattened_size, (tuple, list)) else (None,)
        if not all(isinstance(size, int) for size in sizes):
            raise DTypeError("Unflatten", "unflattened_size", describe(unflattened_size), "a tuple of ints")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input):
        return functional.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def reset_uniform(weight, bias):
    """PyTorch's default for linear and convolution: weight and bias uniform within 1 / sqrt(fan_in)."""
    if weight.data.size == 0:
        return
    init.kaiming_uniform_(weight, a=math.sqrt(5))  # whose bound is 1 / sqrt(fan_in)
    if bias is not None:
        bound = 1 / math.sqrt(init.fan_in_and_fan_out(weight)[0])
        init.uniform_(bias, -bound, bound)
