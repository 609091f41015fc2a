"""Providers of identities that speak OpenID Connect."""
