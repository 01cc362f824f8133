"""Measured speed: steps compared with other code, sweeps with goals."""
