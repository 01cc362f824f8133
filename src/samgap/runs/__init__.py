"""Run folders: the name of a run, its record, and the progress of a sweep."""
