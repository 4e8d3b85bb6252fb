"""Stochastic gradient descent, with momentum."""

from fastconv.arrays import namespace_of
from fastconv.errors import ShapeError
from fastconv.optim.optimizer import Optimizer, blockwise, check_least, in_memory_order


class SGD(Optimizer):
    """Gradient descent with momentum, as torch.optim.SGD.

        d = grad + weight_decay * param
        v = momentum * v + (1 - dampening) * d, d itself in the first step
        param -= lr * v, or with nesterov lr * (d + momentum * v)

    Args:
        params: An iterable of Tensors, or of dicts with the key "params" and options of their own.
        lr: Learning rate, at least 0.
        momentum: Share of the velocity v that is kept; 0 takes d as it is and keeps no v.
        dampening: Share of d that does not enter v.
        weight_decay: Share of the parameter that is added to its gradient.
        nesterov: Whether to look ahead; needs momentum above 0 and no dampening.
        maximize: Whether to climb instead of descend.

    Raises:
        ShapeError: An option is out of range, there are no parameters or one is given twice.
        DTypeError: params holds something that is no floating Tensor.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False):
        defaults = dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
            maximize=maximize,
        )  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, group):
        for name in ("lr", "momentum", "weight_decay"):
            check_least("SGD", name, group[name])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ShapeError(
                "SGD", "nesterov", f"True with momentum={group['momentum']} and dampening={group['dampening']}",
                "momentum above 0 and no dampening",
            )  # fmt: skip

    def _update(self, param, grad, state, group):
        lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
        taken = 1 - float(group["dampening"])
        nesterov, maximize = group["nesterov"], group["maximize"]
        first = momentum != 0 and state.get("momentum_buffer") is None
        if first:
            state["momentum_buffer"] = namespace_of(param).zeros_like(param)

        velocity = (state["momentum_buffer"],) if momentum != 0 else ()
        memories = in_memory_order(param, grad, *velocity)
        if memories is not None:
            from fastconv.cpu.optim import sgd_step  # with Numba, which takes long to import

            p, g, v = memories if velocity else (*memories, memories[0][:0])
            sgd_step(p, g, v, lr, momentum, 1.0 if first else taken, decay, nesterov, maximize)
            return

        def update(g, p, v=None):
            d = -g if maximize else g
            if decay != 0:
                d = d + decay * p
            if v is not None:
                v *= momentum
                v += d if first else taken * d
                d = d + momentum * v if nesterov else v
            p -= lr * d

        blockwise(update, grad, param, *velocity)
