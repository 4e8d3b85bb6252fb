"""The version: pyproject.toml, the documentation and fastconv.__version__ all read it here."""

__version__ = "0.1.0"
