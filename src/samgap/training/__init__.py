"""Training of one run: Lightning task, steps, checkpoint, record."""
