"""Replay of recorded traces in virtual time: formats, importers, peers, scores, reports."""
