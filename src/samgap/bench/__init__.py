"""Measured speed: the step against other code, sweeps against goals."""
