"""A propagation in the scene."""
