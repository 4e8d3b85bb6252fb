"""Hooks of modules: what is called around forward(), and how it is taken out again."""

import itertools
import weakref

_hook_numbers = itertools.count()


class RemovableHandle:
    """What registering a hook returns: remove() undoes it, and so does the end of a with block."""

    def __init__(self, hooks, number):
        self._hooks = weakref.ref(hooks)
        self._number = number

    def remove(self):
        """Take the hook out; a second call does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self._number, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


def add_hook(hooks, hook, prepend, with_kwargs):
    """Add a hook to an OrderedDict of hooks, at its front if prepend; returns its RemovableHandle."""
    number = next(_hook_numbers)
    hooks[number] = (hook, with_kwargs)
    if prepend:
        hooks.move_to_end(number, last=False)
    return RemovableHandle(hooks, number)
