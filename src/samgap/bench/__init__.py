"""Benchmarks: steps compared with other implementations, and sweeps with goals."""
