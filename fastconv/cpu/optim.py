"""Steps of optimisers on the CPU: one pass over a parameter, its gradient and what is remembered of it."""

import numpy as np

from fastconv.cpu.jit import formula, get, kernel, put, select
from fastconv.cpu.threads import parallel_for

_BLOCK = 1 << 14  # elements of a task
_SPEED = 0.5  # elements in a nanosecond of one thread, roughly: it only decides whether a call is worth a second thread


def sgd_step(param, grad, velocity, lr, momentum, taken, decay, nesterov, maximize):
    """A step of fastconv.optim.SGD.

    Args:
        param, grad: Flat arrays of one dtype, float32 or float64; param is changed.
        velocity: One more, changed as well, or an empty one without momentum.
        lr, momentum, taken, decay: Numbers; taken is the share of the gradient that enters the velocity.
        nesterov, maximize: Bools.
    """
    numbers = np.array((-1.0 if maximize else 1.0, lr, momentum, taken, decay), param.dtype)
    _run(_sgd, param, grad, velocity, numbers, bool(nesterov))


def adam_step(param, grad, mean, square, scale, correction, lr, betas, eps, decay, decoupled, maximize):
    """A step of fastconv.optim.Adam or AdamW without amsgrad.

    Args:
        param, grad, mean, square: Flat arrays of one dtype, float32 or float64; all but grad are changed.
        scale, correction: lr / (1 - beta1 ** t) and sqrt(1 - beta2 ** t) in step t.
        lr, betas, eps, decay: The options.
        decoupled: Whether the parameter itself decays.
        maximize: Bool.
    """
    kept = 1 - lr * decay if decoupled else 1
    added = 0 if decoupled else decay
    numbers = (-1.0 if maximize else 1.0, scale, correction, 1 - betas[0], betas[1], 1 - betas[1], eps, kept, added)
    _run(_adam, param, grad, mean, square, np.array(numbers, param.dtype))


def _run(kernel_, param, *args):
    parallel_for(kernel_, -(-param.size // _BLOCK), param.size / _SPEED, param, *args)


@formula
def _direction(g, p, sign, decay):
    d = g * sign
    return select(decay != 0, d + p * decay, d)  # 0 times an infinite parameter would be NaN


@formula
def _moved(a, share, b, other):
    return a * share + b * other


@kernel
def _sgd(first, last, p, g, v, numbers, nesterov):
    sign, lr, momentum, taken, decay = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(first * _BLOCK, min(last * _BLOCK, p.size)):
        d = _direction(get(g, i), get(p, i), sign, decay)
        if v.size != 0:
            velocity = _moved(get(v, i), momentum, d, taken)
            put(v, i, velocity)
            d = select(nesterov, d + velocity * momentum, velocity)
        put(p, i, _moved(get(p, i), p.dtype.type(1), d, -lr))


@formula
def _towards(mean, d, share):
    return mean + (d - mean) * share


@formula
def _joined(square, kept, d, share):
    return square * kept + d * share * d


@formula
def _stepped(p, kept, mean, square, scale, correction, eps):
    return p * kept - mean / (np.sqrt(square) / correction + eps) * scale


@kernel
def _adam(first, last, p, g, mean, square, numbers):
    sign, scale, correction, share = numbers[0], numbers[1], numbers[2], numbers[3]
    beta, rest, eps, kept, decay = numbers[4], numbers[5], numbers[6], numbers[7], numbers[8]
    for i in range(first * _BLOCK, min(last * _BLOCK, p.size)):
        d = _direction(get(g, i), get(p, i), sign, decay)
        m, s = _towards(get(mean, i), d, share), _joined(get(square, i), beta, d, rest)
        put(mean, i, m)
        put(square, i, s)
        put(p, i, _stepped(get(p, i), kept, m, s, scale, correction, eps))
