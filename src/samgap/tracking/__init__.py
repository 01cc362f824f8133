"""All code for W&B: log runs and the gaps of a sweep, read both back, and define dashboard panels."""
