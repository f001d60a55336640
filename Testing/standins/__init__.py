"""Stand-ins for the parts of the application that slicer-core leaves out: `qt`, `ctk`, the qMRML widgets, the
scripted-module base classes, the parameter-node wrapper, `slicer.i18n`, `slicer.app`.

They are backed by PySide6 and by the real MRML scene of slicer-core, and follow the documented behaviour of the
real ones, PythonQt's attribute semantics included. They prove that our code is consistent, not that it works in the
application.
"""

from .application import install, load_module, process_events

__all__ = ["install", "load_module", "process_events"]
