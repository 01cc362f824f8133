"""Nets that grow with one number, their width."""
