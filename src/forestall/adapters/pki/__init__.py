"""Certificates of hosts and of the centre."""
