"""What all studies of gaps say together."""
