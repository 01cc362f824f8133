"""What ten more minutes of one GPU bring; the command is in `__main__`."""
