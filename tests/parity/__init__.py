"""Held against transformers: pixels, features, logits and ids of every family (make parity)."""
