"""Damaged input, without end: each target takes bytes, and answers or refuses them in one line."""
