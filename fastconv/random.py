"""Random numbers for dropout and initialisation: seedable, and the same on every backend.

They are drawn on the host from NumPy's Philox generator and moved to the device, so that one seed gives one mask
wherever a network runs.
"""

import operator

import numpy

from fastconv.arrays import describe
from fastconv.errors import DTypeError


class Generator:
    """A stream of random numbers.

    Args:
        seed: An int; two generators of one seed give the same numbers.

    Raises:
        DTypeError: seed is no int.
    """

    def __init__(self, seed=0):
        self.manual_seed(seed)

    def manual_seed(self, seed):
        """Start over from a seed.

        Args:
            seed: An int.

        Returns:
            The generator itself.

        Raises:
            DTypeError: seed is no int.
        """
        try:
            self._seed = operator.index(seed)
        except TypeError:
            raise DTypeError("Generator", "seed", describe(seed), "an int") from None
        self.numpy = numpy.random.Generator(numpy.random.Philox(self._seed % 2**64))
        return self

    def initial_seed(self):
        """The seed that the stream started from.

        Returns:
            An int.
        """
        return self._seed

    def get_state(self):
        """Where the stream stands: a dict that set_state takes.

        Returns:
            A dict of plain values and arrays.
        """
        return self.numpy.bit_generator.state

    def set_state(self, state):
        """Continue from where another stream stood.

        Args:
            state: What get_state gave.
        """
        self.numpy.bit_generator.state = state


default_generator = Generator(0)


def manual_seed(seed):
    """Start the library's own generator over from a seed: initialisation and dropout draw from it.

    Args:
        seed: An int.

    Returns:
        The generator.

    Raises:
        DTypeError: seed is no int.
    """
    return default_generator.manual_seed(seed)
