"""Choices that a caller makes for a whole process, and that the environment makes before it."""

import contextlib
import os

from fastconv.errors import DTypeError, ShapeError


class Mode:
    """One choice among a few words.

    Args:
        name: Of the choice: errors speak of set_<name>, and FASTCONV_<NAME> gives the default.
        words: What can be chosen; the first unless the environment says otherwise.
    """

    def __init__(self, name, words):
        self._name = name
        self._words = words
        self._chosen = None  # the environment is asked when the choice is first needed

    def get(self):
        """The word that is chosen."""
        if self._chosen is None:
            variable = f"FASTCONV_{self._name.upper()}"
            self._chosen = self._checked(variable, "value", os.environ.get(variable, "") or self._words[0])
        return self._chosen

    def set(self, word):
        """Choose."""
        self._chosen = self._checked(f"set_{self._name}", "mode", word)

    @contextlib.contextmanager
    def within(self, word):
        """Choose for the time of a block."""
        before = self.get()
        self.set(word)
        try:
            yield
        finally:
            self._chosen = before

    def _checked(self, operator, argument, word):
        if not isinstance(word, str):
            raise DTypeError(operator, argument, f"{type(word).__name__} {word!r}", "a str")
        if word not in self._words:
            raise ShapeError(operator, argument, repr(word), " or ".join(map(repr, self._words)))
        return word
