"""Hydra finds plugins only in the package hydra_plugins; see sweeper.py."""
