"""Walks a Dockerfile step by step where there is no docker."""
