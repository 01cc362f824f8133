"""SAM and its variants as wrappers around any torch optimizer, and learning-rate schedules."""
