"""Settings of Sphinx; `make docs` builds."""

import re

from fastconv import __version__

project = "fastconv"
author = "the fastconv authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"


def setup(app):
    """Docstrings are written to be read in a terminal, where neither [N, C, *size] nor relu_ holds markup."""
    app.connect("autodoc-process-docstring", _escape, priority=400)  # before napoleon, which adds markup


def _escape(app, what, name, obj, options, lines):
    lines[:] = [re.sub(r"\*|(?<=\w)_(?!\w)", r"\\\g<0>", line) for line in lines]
