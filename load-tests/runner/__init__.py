"""The parts of `load-tests/run`. Python's standard library only, so that there is nothing to install."""
