"""Hydra finds plugins only below this name; see sweeper.py."""
