"""Makes figures from records. Each question has a folder with its numbers, its verdict and its drawing."""
