"""A result: `Result.read` and `Result.write`, and its tables; the only place that knows the folder."""

from ..core import lazy

__all__, __getattr__, __dir__ = lazy.exports(__name__, {"Result": "result"})
