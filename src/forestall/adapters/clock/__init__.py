"""Clocks: the host's, and one whose time passes at once."""
