"""One run: Lightning task, steps, checkpoint, record."""
