"""Prefetchers to compare with."""
