"""HTTPS where both sides show a certificate."""
