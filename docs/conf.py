"""Settings of Sphinx; `make docs` builds."""

from fastconv import __version__

project = "fastconv"
author = "the fastconv authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
