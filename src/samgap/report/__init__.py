"""Makes one HTML page with all figures, tables and verdicts; it opens from disk, without network or account."""
