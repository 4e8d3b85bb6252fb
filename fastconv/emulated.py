"""The emulated backend: fastconv.cuda on NumPy arrays, its kernels compiled for the CPU. For tests, not for speed."""

from fastconv.cuda import *  # noqa: F403 -- the same operators by construction
