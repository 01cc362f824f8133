"""Analyses that combine all studies of gaps."""
