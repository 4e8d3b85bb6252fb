from fastconv._version import __version__
