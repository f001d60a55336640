"""A result in the scene as one run: load, show, find again, remove."""
