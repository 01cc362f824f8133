"""Pruning at initialization: choose the live weights, and keep the others at 0."""
