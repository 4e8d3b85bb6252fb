"""Complete programs that use fastconv, each run by `python -m examples.<name>`."""
