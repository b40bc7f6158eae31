"""Requests of all kinds to a server, made of its own description of its API."""
