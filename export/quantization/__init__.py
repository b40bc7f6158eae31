"""Quantization of a graph's matmuls: recipes, rounding, dialects, calibration, the gate."""
