"""Data sets: loading, dealing into parts, batches."""
