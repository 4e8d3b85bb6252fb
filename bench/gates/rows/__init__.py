"""The rows of bench/gates/trace.py, a file a family: each has a function rows() that gives its Rows.

A new kernel gets a row where its family's are, and `python -m bench gates --trace --update` writes its numbers.
"""

import importlib
import pkgutil


def all_rows():
    """The Rows of every family."""
    families = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [row for family in families for row in importlib.import_module(f"{__name__}.{family}").rows()]
