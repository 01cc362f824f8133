"""Checks of any SAM implementation, on the class itself: `python -m samgap.conformance samgap.optim.sam:SAM`.

The checks need torch and nothing else of this project. Only the command needs `provenance`, for the commit in its JSON.
"""
