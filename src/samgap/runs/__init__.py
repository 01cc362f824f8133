"""Run folders: the name of a run, its record, and how far a sweep is."""
