"""Settings of Sphinx; `make docs` builds."""

from fastconv import __version__

project = "fastconv"
author = "the fastconv authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"


def setup(app):
    """Docstrings are written to be read in a terminal, where the star of [N, C, *size] is no markup."""
    app.connect("autodoc-process-docstring", _escape_stars, priority=400)  # before napoleon, which adds markup


def _escape_stars(app, what, name, obj, options, lines):
    lines[:] = [line.replace("*", r"\*") for line in lines]
