"""Nets whose size is set by one number, the width."""
