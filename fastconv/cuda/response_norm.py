"""Local response normalisation on the GPU, by the array's own module."""

from fastconv.cuda.elementwise import computed


def response_norm_forward(x, size, alpha, beta, k):
    """y of the shape of x; see fastconv.backend."""
    return computed(x, _forward, (x,), (size, alpha, beta, k))


def response_norm_input_grad(dy, x, size, alpha, beta, k):
    """dx of the shape of x; see fastconv.backend."""
    return computed(dy, _input_grad, (dy, x), (size, alpha, beta, k))


def _forward(xp, x, size, alpha, beta, k):
    return x / _divisors(xp, x, size, alpha, k) ** beta


def _input_grad(xp, dy, x, size, alpha, beta, k):
    d = _divisors(xp, x, size, alpha, k)
    scale = d**-beta
    through = _window_sums(xp, dy * x * scale / d, (size - 1) // 2, size // 2)
    return dy * scale - x * (2 * alpha * beta / size) * through


def _divisors(xp, x, size, alpha, k):
    return k + alpha / size * _window_sums(xp, x * x, size // 2, (size - 1) // 2)


def _window_sums(xp, values, before, after):
    """For each channel the sum over itself, so many before it and so many after it."""
    channels = values.shape[1]
    sums = xp.zeros_like(values)
    for apart in range(max(-before, 1 - channels), min(after, channels - 1) + 1):
        low, high = max(-apart, 0), channels - max(apart, 0)
        sums[:, low:high] += values[:, low + apart : high + apart]
    return sums
