"""Runs of figures 8 and 7 for a limited time on one GPU; the command is in `__main__`."""
