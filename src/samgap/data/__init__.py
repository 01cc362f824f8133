"""Data sets: loading, splitting, batches."""
