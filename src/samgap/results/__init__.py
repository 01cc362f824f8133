"""From records to table, gaps, statistics and verdict."""
