"""Experiments: each in one resumable command."""
