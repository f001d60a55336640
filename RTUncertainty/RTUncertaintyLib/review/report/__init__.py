"""The report of a reviewed result."""
