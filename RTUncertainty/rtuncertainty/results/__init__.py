"""A result as a folder: its files, tables and summary."""
