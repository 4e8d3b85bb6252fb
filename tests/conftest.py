"""Fixtures that several families share."""

from tests.cupy_stand_in import cupy

__all__ = ["cupy"]
