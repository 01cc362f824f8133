"""The ascent of SAM around any torch optimizer, and learning-rate schedules."""
