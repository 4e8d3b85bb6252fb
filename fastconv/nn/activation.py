"""Activation functions as modules."""

from fastconv import functional
from fastconv.nn.module import Module
from fastconv.nn.parameter import new_parameter


class Activation(Module):
    """Keeps the options of an elementwise function as attributes and passes them on by name."""

    def __init__(self, **options):
        super().__init__()
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, input):
        return self._function(input, **{name: getattr(self, name) for name in self._options})

    def extra_repr(self):
        shown = (name for name in self._options if name != "inplace" or self.inplace)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


class ReLU(Activation):
    """max(x, 0), as torch.nn.ReLU.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.relu)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class ReLU6(Activation):
    """min(max(x, 0), 6), as torch.nn.ReLU6.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.relu6)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class LeakyReLU(Activation):
    """x where x > 0, otherwise negative_slope * x, as torch.nn.LeakyReLU.

    Args:
        negative_slope: Slope on the left of 0.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.leaky_relu)

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__(negative_slope=negative_slope, inplace=inplace)


class ELU(Activation):
    """x where x > 0, otherwise alpha * (exp(x) - 1), as torch.nn.ELU.

    Args:
        alpha: What it tends to on the left, negated.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.elu)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(alpha=alpha, inplace=inplace)


class SELU(Activation):
    """Scaled ELU, whose constants keep mean 0 and variance 1 from layer to layer, as torch.nn.SELU.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.selu)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class CELU(Activation):
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)), as torch.nn.CELU.

    Args:
        alpha: What it tends to on the left, negated; not 0.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.celu)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(alpha=alpha, inplace=inplace)


class SiLU(Activation):
    """x * sigmoid(x), as torch.nn.SiLU.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.silu)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class GELU(Activation):
    """x * Phi(x), Phi the distribution function of the standard normal, as torch.nn.GELU.

    Args:
        approximate: "none", or "tanh" for an approximation of Phi by tanh.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.gelu)

    def __init__(self, approximate="none"):
        super().__init__(approximate=approximate)


class Mish(Activation):
    """x * tanh(softplus(x)), as torch.nn.Mish.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.mish)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class Hardswish(Activation):
    """x * min(max(x + 3, 0), 6) / 6, as torch.nn.Hardswish.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.hardswish)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class Hardsigmoid(Activation):
    """min(max(x + 3, 0), 6) / 6, as torch.nn.Hardsigmoid.

    Args:
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.hardsigmoid)

    def __init__(self, inplace=False):
        super().__init__(inplace=inplace)


class Hardtanh(Activation):
    """min(max(x, min_val), max_val), as torch.nn.Hardtanh.

    Args:
        min_val: Least result.
        max_val: Largest result.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.hardtanh)

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        super().__init__(min_val=min_val, max_val=max_val, inplace=inplace)


class Softplus(Activation):
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold, as torch.nn.Softplus.

    Args:
        beta: Sharpness of the bend at 0.
        threshold: Where it becomes the identity.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.softplus)

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__(beta=beta, threshold=threshold)


class Softsign(Activation):
    """x / (1 + abs(x)), as torch.nn.Softsign.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.softsign)

    def __init__(self):
        super().__init__()


class LogSigmoid(Activation):
    """log(1 / (1 + exp(-x))), as torch.nn.LogSigmoid.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.logsigmoid)

    def __init__(self):
        super().__init__()


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), as torch.nn.Sigmoid.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.sigmoid)

    def __init__(self):
        super().__init__()


class Tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)), as torch.nn.Tanh.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.tanh)

    def __init__(self):
        super().__init__()


class Threshold(Activation):
    """x where x > threshold, otherwise value, as torch.nn.Threshold.

    Args:
        threshold: What x is compared with.
        value: The result where x is not larger.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.threshold)

    def __init__(self, threshold, value, inplace=False):
        super().__init__(threshold=threshold, value=value, inplace=inplace)


class Tanhshrink(Activation):
    """x - tanh(x), as torch.nn.Tanhshrink.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.tanhshrink)

    def __init__(self):
        super().__init__()


class Softshrink(Activation):
    """x nearer to 0 by lambd, and 0 where that would pass it, as torch.nn.Softshrink.

    Args:
        lambd: By how much, at least 0.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.softshrink)

    def __init__(self, lambd=0.5):
        super().__init__(lambd=lambd)

    def extra_repr(self):
        return str(self.lambd)


class Hardshrink(Activation):
    """x where it is beyond -lambd to lambd, otherwise 0, as torch.nn.Hardshrink.

    Args:
        lambd: The limit.

    Shape:
        Any in, the same out.
    """

    _function = staticmethod(functional.hardshrink)

    def __init__(self, lambd=0.5):
        super().__init__(lambd=lambd)

    def extra_repr(self):
        return str(self.lambd)


class GLU(Activation):
    """The first half of an axis times sigmoid of the second, as torch.nn.GLU.

    Args:
        dim: The axis, of an even size.

    Shape:
        Any in, half of it along the axis out.
    """

    _function = staticmethod(functional.glu)

    def __init__(self, dim=-1):
        super().__init__(dim=dim)


class RReLU(Activation):
    """x where x > 0, otherwise a random slope times x when training, the mean slope when not, as torch.nn.RReLU.

    Args:
        lower, upper: Limits of the slope.
        inplace: Whether the result may take the place of the input.

    Shape:
        Any in, the same out.
    """

    def __init__(self, lower=1.0 / 8, upper=1.0 / 3, inplace=False):
        super().__init__(lower=lower, upper=upper, inplace=inplace)

    def forward(self, input):
        return functional.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class PReLU(Module):
    """x where x > 0, otherwise a learned slope times x, as torch.nn.PReLU.

    Args:
        num_parameters: 1, or C for a slope a channel.
        init: What the slopes start from.
        device: "cpu" or "cuda"; None is "cpu".
        dtype: Floating dtype of the slopes; None is float32.

    Shape:
        Any in, or [N, C, ...] for a slope a channel; the same out. weight is [num_parameters].

    Source: He et al., arXiv:1502.01852.
    """

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = new_parameter((num_parameters,), device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Set every slope to what it starts from."""
        self.weight.data[...] = self.init

    def forward(self, input):
        return functional.prelu(input, self.weight)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"
