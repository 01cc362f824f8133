"""From records to figures: a folder for each question, with its numbers, its verdict and its drawing."""
