"""Hydra finds plugins only below this name; see jobs.py."""
