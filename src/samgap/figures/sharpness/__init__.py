"""Is the training loss flatter around SAM's solutions?"""
