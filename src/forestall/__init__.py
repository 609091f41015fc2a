"""Forestall gives each virtual machine what it is about to need, before it asks."""

__version__ = "0.1.0"
