"""`python -m examples.digits.select`: how the settings were chosen, without a look at the held-out quarter.

Each candidate differs from Settings in what its line names. It is judged by cross-validation inside the
training part: four networks, each trained on three quarters of that part and measured on the fourth, for
each of two seeds. What does best becomes the default of Settings; differences of a few scans are chance.
"""

import time

import fastconv
from examples.digits.data import Digits, load
from examples.digits.network import build_network
from examples.digits.training import Settings, train

FOLDS = 4
SEEDS = (0, 1)
CANDIDATES = (
    {},
    {"shift": 0.0, "noise": 0.0},
    {"noise": 0.0},
    {"noise": 0.1},
    {"shift": 0.5},
    {"max_lr": 5e-3},
    {"max_lr": 2e-2},
    {"epochs": 12},
    {"epochs": 30},
)


def misread(digits, settings):
    """Errors of cross-validation with one seed.

    Args:
        digits: Digits, whose held-out part is not touched.
        settings: Settings.

    Returns:
        (scans misread, mean loss), over all folds.
    """
    from sklearn.model_selection import StratifiedKFold

    scans, classes = digits.train_scans, digits.train_classes
    errors, loss = 0.0, 0.0
    for kept, left in StratifiedKFold(FOLDS, shuffle=True, random_state=settings.seed).split(scans, classes):
        fastconv.manual_seed(settings.seed)
        network = build_network(fastconv.nn)
        fold = Digits(scans[kept], classes[kept], scans[left], classes[left])
        last = train(network, fold, settings)[-1].test
        errors += (1 - last.accuracy) * len(left)
        loss += last.loss / FOLDS
    return round(errors), loss


def main():
    """Print a line for each candidate."""
    digits = load()
    count = len(digits.train_classes)
    for changes in CANDIDATES:
        start = time.perf_counter()
        results = [misread(digits, Settings(seed=seed)._replace(**changes)) for seed in SEEDS]
        errors = sum(e for e, _ in results) / len(SEEDS)
        loss = sum(value for _, value in results) / len(SEEDS)
        words = ", ".join(f"{name} {value:g}" for name, value in changes.items()) or "as in Settings"
        seconds = time.perf_counter() - start
        print(f"{words:24}  {errors:5.1f} of {count:,} misread, {1 - errors / count:7.2%} right, "
              f"loss {loss:.4f}, {seconds:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
