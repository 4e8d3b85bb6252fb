"""A first network: scanned digits of 8 x 8 pixels, told apart by a small convolutional network.

`python -m examples.digits` trains it, saves it and writes a report. Importing this package imports neither
fastconv nor scikit-learn, so that the benchmarks can build the same network in a process of PyTorch alone.
"""

from examples.digits.network import build_network

__all__ = ["build_network"]
