"""Clocks: the host's, one that runs faster, and one whose time passes at once."""
