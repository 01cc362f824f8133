"""Does the training loss fall at a linear rate?"""
