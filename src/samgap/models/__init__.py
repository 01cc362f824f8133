"""Nets with one number for their size, the width."""
