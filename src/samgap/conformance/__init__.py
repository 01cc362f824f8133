"""Does a SAM do what it says? Properties that any implementation should have, checked on the class itself.

`python -m samgap.conformance samgap.optim.sam:SAM`. Needs torch and nothing of this project.
"""
