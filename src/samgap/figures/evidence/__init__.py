"""Analyses of all studies of gaps together."""
