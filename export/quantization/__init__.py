"""Quantization of a graph's matrix products: recipes, rounding, dialects, calibration, the gate."""
