"""The training itself: what to copy for a network of your own."""

import hashlib
from typing import NamedTuple

import numpy

import fastconv
import fastconv.functional as F
from examples.digits.data import augment
from fastconv import optim


class Settings(NamedTuple):
    """Everything that decides the weights, with the choices of examples/digits/select.py as defaults.

    Attributes:
        epochs: How often every scan is seen.
        batch: Scans a step.
        max_lr: Learning rate at the top of its cycle.
        weight_decay: Of AdamW.
        shift: The farthest that scans are moved, in pixels.
        noise: Standard deviation of the noise on scans, whose darkest ink is 1.
        seed: Of initialisation, dropout, order and augmentation.
    """

    epochs: int = 20
    batch: int = 64
    max_lr: float = 1e-2
    weight_decay: float = 1e-2
    shift: float = 1.0
    noise: float = 0.05
    seed: int = 0


class Score(NamedTuple):
    """How well a network does on some scans, without dropout and augmentation.

    Attributes:
        loss: Mean cross-entropy.
        accuracy: Share of the scans that are read right.
    """

    loss: float
    accuracy: float


class Epoch(NamedTuple):
    """Scores after an epoch.

    Attributes:
        train: On the scans that were trained on.
        test: On those that were held out.
    """

    train: Score
    test: Score


def train(network, digits, settings, after_epoch=lambda epoch: None, after_step=lambda: None):
    """Train a network in place.

    Args:
        network: From build_network(fastconv.nn), made after fastconv.manual_seed(settings.seed).
        digits: Digits; the held-out part is measured after each epoch and decides nothing.
        settings: Settings.
        after_epoch: Called with every Epoch as it ends.
        after_step: Called after every step.

    Returns:
        A list of Epochs.
    """
    rng = numpy.random.default_rng(settings.seed)
    optimizer = optim.AdamW(network.parameters(), lr=settings.max_lr, weight_decay=settings.weight_decay)
    steps = steps_per_epoch(digits, settings)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, settings.max_lr, total_steps=settings.epochs * steps)
    history = []
    for _ in range(settings.epochs):
        network.train()
        order = rng.permutation(len(digits.train_scans))
        for chosen in order[: steps * settings.batch].reshape(steps, settings.batch):
            scans = augment(digits.train_scans[chosen], rng, settings.shift, settings.noise)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(scans), digits.train_classes[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            after_step()
        epoch = Epoch(
            score(predict(network, digits.train_scans), digits.train_classes),
            score(predict(network, digits.test_scans), digits.test_classes),
        )
        history.append(epoch)
        after_epoch(epoch)
    return history


def steps_per_epoch(digits, settings):
    """Steps of an epoch; the scans that fill no batch are left for another epoch, whose order differs."""
    return len(digits.train_scans) // settings.batch


def predict(network, scans):
    """What a network makes of scans.

    Args:
        network: A fastconv network.
        scans: [N, 1, 8, 8].

    Returns:
        Logarithms of the probabilities, [N, 10] float32.
    """
    network.eval()
    with fastconv.no_grad():
        return F.log_softmax(network(scans), dim=1).numpy()


def score(log_probabilities, classes):
    """Compare predictions with the truth.

    Args:
        log_probabilities: [N, 10].
        classes: [N].

    Returns:
        A Score.
    """
    loss = -log_probabilities[numpy.arange(len(classes)), classes].mean(dtype="float64")
    return Score(float(loss), float((log_probabilities.argmax(axis=1) == classes).mean()))


def fingerprint(state):
    """SHA-256 of all weights, so that two trainings can be compared bit by bit.

    Args:
        state: What state_dict() gives.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, array in state.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
