"""Notices to those who asked for something."""
