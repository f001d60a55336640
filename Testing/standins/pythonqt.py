"""PythonQt's way with Qt objects, on PySide6 classes.

- A Qt property is an attribute: `button.text` is a string, `button.enabled = False` sets it; `button.text()` fails.
- Signals connect by name too: `button.connect("clicked(bool)", f)`. A signal that the class does not have raises
  here (PythonQt returns False, which nobody reads).
- A callable gets as many of the signal's arguments as it can take.
- Attributes that the C++ class does not have cannot be created on its objects; only Python subclasses hold more.
"""

import inspect

import shiboken6
from PySide6.QtCore import QMetaMethod, QMetaObject, QObject, SignalInstance

_native_getattribute = QObject.__getattribute__
_native_setattr = shiboken6.Shiboken.Object.__setattr__
_property_names: dict[type, frozenset] = {}
_connections: dict[tuple, list] = {}
_reading: list[tuple] = []  # reading `sizeHint` makes Qt look for a Python override by the same name
ignored_attributes: set[str] = set()
"""Names that PySide6's QUiLoader sets on the root widget, and PythonQt's does not."""


def _properties(cls) -> frozenset:
    if cls not in _property_names:
        meta = cls.staticMetaObject
        _property_names[cls] = frozenset(meta.property(i).name() for i in range(meta.propertyCount()))
    return _property_names[cls]


def _getattribute(self, name):
    if name.startswith("_"):
        return _native_getattribute(self, name)
    if name == "name":
        return _native_getattribute(self, "objectName")()
    if name == "connect":
        return lambda signal, callback, *_: connect(self, signal, callback)
    if name == "disconnect":
        return lambda signal, callback=None, *_: disconnect(self, signal, callback)
    if name in _properties(type(self)) and (id(self), name) not in _reading and not _overridden(type(self), name):
        _reading.append((id(self), name))
        try:
            return _native_getattribute(self, "property")(name)
        finally:
            _reading.pop()
    return _native_getattribute(self, name)


def _overridden(cls, name) -> bool:
    """Whether a Python class overrides the virtual function that a property such as `sizeHint` reads."""
    return any(inspect.isfunction(vars(base).get(name)) for base in cls.__mro__)


def _setattr(self, name, value):
    if name == "name":
        _native_getattribute(self, "setObjectName")(value)
    elif name in _properties(type(self)):
        if not _native_getattribute(self, "setProperty")(name, value):
            raise TypeError(f"{type(self).__name__}.{name} does not take {value!r}")
    elif isinstance(value, SignalInstance):
        _native_setattr(self, name, value)  # PySide6 keeps a bound signal on its object
    elif name in ignored_attributes:
        return
    elif name.startswith("_") or not _is_library_class(type(self)):
        _native_setattr(self, name, value)
    else:
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}' and none can be added")


def _is_library_class(cls) -> bool:
    return cls.__module__.startswith("PySide6") or cls.__name__.startswith(("ctk", "qMRML", "qSlicer"))


def patch(cls: type) -> type:
    """Give a QObject class PythonQt's attribute semantics."""
    cls.__getattribute__ = _getattribute
    cls.__setattr__ = _setattr
    return cls


def _signal(obj, signature: str):
    """The bound signal of a signature such as "finished(int,QProcess::ExitStatus)"; AttributeError when absent."""
    base = signature.split("(")[0]
    if base not in _signal_bases(type(obj)):
        raise AttributeError(f"{type(obj).__name__} has no signal {signature}")
    declared = getattr(type(obj), "_signatures", {})
    if base in declared:
        if "(" in signature and signature.replace(" ", "") not in declared[base]:
            raise AttributeError(f"{type(obj).__name__} has no signal {signature}, only {declared[base]}")
    elif "(" in signature:
        normalised = QMetaObject.normalizedSignature(signature).data().decode()
        if type(obj).staticMetaObject.indexOfSignal(normalised) < 0:
            raise AttributeError(f"{type(obj).__name__} has no signal {signature}")
    bound = _native_getattribute(obj, base)
    arguments = signature[len(base) :].strip("()")
    overloads = len([s for s in _signatures(type(obj)) if s.split("(")[0] == base])
    if arguments and overloads > 1 and base not in declared:
        try:
            return bound[arguments]
        except (KeyError, IndexError, TypeError):
            return bound
    return bound


def _signatures(cls) -> list[str]:
    meta = cls.staticMetaObject
    methods = [meta.method(i) for i in range(meta.methodCount())]
    return [m.methodSignature().data().decode() for m in methods if m.methodType() == QMetaMethod.MethodType.Signal]


def _signal_bases(cls) -> set[str]:
    return {s.split("(")[0] for s in _signatures(cls)}


def _fit(callback):
    """Call `callback` with as many of the arguments as it can take."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return callback
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return callback
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return lambda *arguments: callback(*arguments[:count])


def connect(obj, signature: str, callback) -> bool:
    slot = _fit(callback)
    _signal(obj, signature).connect(slot)
    _connections.setdefault((id(obj), signature), []).append((callback, slot))
    return True


def disconnect(obj, signature: str, callback=None) -> bool:
    known = _connections.get((id(obj), signature), [])
    found = [(c, s) for c, s in known if callback is None or c == callback]
    for entry in found:
        known.remove(entry)
        _signal(obj, signature).disconnect(entry[1])
    return bool(found)
