"""The theoretical statements of arXiv 2311.17539 (poster), each checked numerically: `python -m samgap.theory`."""
