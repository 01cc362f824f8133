"""Does a SAM do what it says? Properties that any implementation should have, checked on the class itself.

`python -m samgap.conformance samgap.optim.sam:SAM`. The properties need torch and nothing else of this project; the
command alone looks up the commit that its JSON names.
"""
