"""Replay of traffic between nodes of a network along a recorded trace."""
