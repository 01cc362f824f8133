"""Pruning at initialization: which weights live, and how the others stay 0."""
