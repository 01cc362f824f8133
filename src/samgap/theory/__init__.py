"""Numerical checks of the theoretical statements of arXiv 2311.17539 (poster): `python -m samgap.theory`."""
