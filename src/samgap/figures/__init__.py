"""Makes figures from records. Each kind of question has a folder with its numbers, verdicts and charts."""
