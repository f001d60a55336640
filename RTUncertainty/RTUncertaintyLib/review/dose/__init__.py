"""Dose of a reviewed result: DVHs with bands."""
