"""All code for W&B: logs runs and the gaps of a sweep, reads both back, and defines dashboard panels."""
