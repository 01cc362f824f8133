"""All figures, tables and verdicts as one page that opens from disk, without network or account."""
