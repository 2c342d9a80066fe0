"""Raw text to datasets, and datasets to token rows. Operators are plain functions; no torch here."""
