"""The report of a result."""
