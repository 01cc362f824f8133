"""Pruning at initialization: choosing the live weights, and keeping the others at 0."""
