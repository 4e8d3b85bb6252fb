"""Adam, and AdamW, which decays weights apart from the gradient."""

import math

from fastconv.arrays import describe, namespace_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.optim.optimizer import Optimizer, blockwise, check_least, in_memory_order

_ARGS = """Args:
        params: An iterable of Tensors, or of dicts with the key "params" and options of their own.
        lr: Learning rate, at least 0.
        betas: Shares of the mean m and of the mean square v that are kept; each at least 0 and below 1.
        eps: Added to the root of v.
        weight_decay: {decay}
        amsgrad: Whether to divide by the largest v so far.
        maximize: Whether to climb instead of descend.

    Raises:
        ShapeError: An option is out of range, there are no parameters or one is given twice.
        DTypeError: params holds something that is no floating Tensor, or betas is no pair.
"""


class Adam(Optimizer):
    __doc__ = f"""Steps scaled by running means of the gradient and of its square, as torch.optim.Adam.

        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad ** 2
        param -= lr * (m / (1 - beta1 ** t)) / (sqrt(v / (1 - beta2 ** t)) + eps) in step t

    {_ARGS.format(decay="Share of the parameter that is added to its gradient.")}
    Source: Kingma & Ba, arXiv:1412.6980; amsgrad: Reddi et al., arXiv:1904.09237.
    """

    _decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, maximize=False):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize)
        super().__init__(params, defaults)

    def _check(self, group):
        for name in ("lr", "eps", "weight_decay"):
            check_least(self._name, name, group[name])
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise DTypeError(self._name, "betas", describe(betas), "a pair of numbers")
        for beta in betas:
            check_least(self._name, "betas", beta)
            if beta >= 1:
                raise ShapeError(self._name, "betas", beta, "below 1")

    def _update(self, param, grad, state, group):
        xp = namespace_of(param)
        names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        for name in names:
            if name not in state:
                state[name] = xp.zeros_like(param)
        state["step"] = step = state.get("step", 0) + 1
        lr, eps, decay = float(group["lr"]), float(group["eps"]), float(group["weight_decay"])
        beta1, beta2 = map(float, group["betas"])
        scale = lr / (1 - beta1**step)
        correction = math.sqrt(1 - beta2**step)
        decoupled, maximize = self._decoupled, group["maximize"]
        memories = None if group["amsgrad"] else in_memory_order(param, grad, *(state[name] for name in names))
        if memories is not None:
            from fastconv.cpu.optim import adam_step  # with Numba, which takes long to import

            adam_step(*memories, scale, correction, lr, (beta1, beta2), eps, decay, decoupled, maximize)
            return

        def update(g, p, m, v, largest=None):
            d = -g if maximize else g
            if decay != 0 and decoupled:
                p *= 1 - lr * decay
            elif decay != 0:
                d = d + decay * p
            m += (1 - beta1) * (d - m)
            v *= beta2
            v += (1 - beta2) * d * d
            if largest is not None:
                v = xp.maximum(largest, v, out=largest)
            root = xp.sqrt(v)
            root /= correction
            root += eps
            p -= scale * (m / root)

        blockwise(update, grad, param, *(state[name] for name in names))


class AdamW(Adam):
    __doc__ = f"""Adam whose weight decay shrinks the parameter itself, as torch.optim.AdamW.

        param *= 1 - lr * weight_decay, and then as Adam without weight decay

    {_ARGS.format(decay="Share of the parameter, times lr, that each step takes away.")}
    Source: Loshchilov & Hutter, arXiv:1711.05101.
    """

    _decoupled = True

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
