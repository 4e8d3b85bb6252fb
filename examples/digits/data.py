"""The scans: 1,797 digits that 43 people wrote, part of scikit-learn, so that nothing is downloaded.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from typing import NamedTuple

import numpy

_SPLIT_SEED = 0  # apart from the seed of the training, so that every run is judged by the same scans
_DARKEST = 16


class Digits(NamedTuple):
    """Scans and what they show, in two parts.

    Attributes:
        train_scans: [N, 1, 8, 8] float32, 0 is paper and 1 the darkest ink.
        train_classes: [N] int64, the digits.
        test_scans: The held-out scans, likewise.
        test_classes: Their digits.
    """

    train_scans: numpy.ndarray
    train_classes: numpy.ndarray
    test_scans: numpy.ndarray
    test_classes: numpy.ndarray


def load():
    """Load the scans and hold out a quarter of them, the same quarter every time, digit by digit.

    Returns:
        Digits, 1,347 to train on and 450 held out.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    scans = (pixels / _DARKEST).astype("float32").reshape(-1, 1, 8, 8)
    train_scans, test_scans, train_classes, test_classes = train_test_split(
        scans, classes, test_size=0.25, stratify=classes, random_state=_SPLIT_SEED
    )
    return Digits(train_scans, train_classes, test_scans, test_classes)


def augment(scans, rng, shift, noise):
    """Move every scan a little, and add a little noise.

    Args:
        scans: [N, 1, H, W].
        rng: A numpy.random.Generator.
        shift: The farthest move in pixels along each axis; in between, pixels are interpolated.
        noise: Standard deviation of what is added to every pixel.

    Returns:
        New scans of the same shape and dtype.
    """
    count, _, height, width = scans.shape
    vertical, horizontal = rng.uniform(-shift, shift, (2, count)).astype(scans.dtype)
    # einsum and not matmul: its order of summation depends on no BLAS and no number of threads.
    moved = numpy.einsum("nih,nchw->nciw", _moves(vertical, height), scans)
    moved = numpy.einsum("njw,nciw->ncij", _moves(horizontal, width), moved)
    return moved + noise * rng.standard_normal(scans.shape, dtype=scans.dtype)


def _moves(distances, size):
    """[N, size, size]: matrices that move a line of pixels by each distance, paper coming in from outside."""
    places = numpy.arange(size, dtype=distances.dtype)
    gaps = numpy.abs(places[:, None] + distances[:, None, None] - places)
    return numpy.maximum(1 - gaps, 0)
