"""Is the loss flatter around SAM's solutions?"""
