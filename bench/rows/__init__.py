"""The calls that `python -m bench <family>` times: one table a family, in a file of its own.

A family is a module whose TABLE holds bench.operators.Operator rows without a direction; each is timed in both.
"""

from bench.rows import activations, latency, losses, norms, padding

FAMILIES = {
    "activations": activations.TABLE,
    "latency": latency.TABLE,
    "losses": losses.TABLE,
    "norms": norms.TABLE,
    "padding": padding.TABLE,
}
