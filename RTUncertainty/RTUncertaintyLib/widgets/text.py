"""Translation of the texts that users see; plain English where the application's translator is absent."""

try:
    from slicer.i18n import tr as _
except ImportError:

    def _(text: str) -> str:
        """The text itself."""
        return text


__all__ = ["_"]
