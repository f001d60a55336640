"""The command line: one file a group of commands."""

from .command_line import main

__all__ = ["main"]
