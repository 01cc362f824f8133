"""All of W&B: runs, the gaps of a sweep, reading both back, a dashboard's panels."""
