"""Readers of other systems' traces; one format a file."""
