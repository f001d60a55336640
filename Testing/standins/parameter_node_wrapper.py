"""`slicer.parameterNodeWrapper` for the types in use: bool, int, float, str, Enum and MRML nodes."""

import dataclasses
import enum
import sys
import types
import typing

_PROPERTY = "SlicerParameterName"


@dataclasses.dataclass
class Default:
    value: object


@dataclasses.dataclass
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


@dataclasses.dataclass
class Choice:
    choices: list

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value!r}")


class _Parameter:
    """One typed value in the parameter node: nodes as node references, the rest as text."""

    def __init__(self, name, hint, owner):
        if typing.get_origin(hint) is typing.Annotated:
            self.type, *annotations = typing.get_args(hint)
        else:
            self.type, annotations = hint, []
        self.name = name
        self.is_node = hasattr(self.type, "GetNodeTagName") or self.type.__name__.startswith("vtkMRML")
        self.validators = [a for a in annotations if hasattr(a, "validate")]
        given = [a.value for a in annotations if isinstance(a, Default)]
        if not self.is_node and not issubclass(self.type, (bool, int, float, str, enum.Enum)):
            raise TypeError(f"The stand-in has no serializer for {name}: {self.type}")
        if hasattr(owner, name):
            self.default = getattr(owner, name)
        elif given:
            self.default = given[0]
        elif self.is_node:
            self.default = None
        else:
            self.default = list(self.type)[0] if issubclass(self.type, enum.Enum) else self.type()

    def is_in(self, node):
        return self.is_node or self.name in node.GetParameterNames()

    def read(self, node):
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if not self.is_in(node):
            return self.default
        if issubclass(self.type, bool):
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node, value):
        if self.is_node:
            if value is not None and not isinstance(value, self.type):
                raise TypeError(f"{self.name} takes a {self.type.__name__}, not a {type(value).__name__}")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, self.type):
            raise TypeError(f"{self.name} takes {self.type.__name__}, not {value!r}")
        for validator in self.validators:
            validator.validate(value)
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class _Connector:
    """Two-way binding of a parameter and a widget."""

    def __init__(self, widget, parameter):
        import ctk
        import qt
        import slicer

        self.widget, self.parameter = widget, parameter
        kind, of = type(widget), parameter.type
        if kind is slicer.qMRMLNodeComboBox and parameter.is_node:
            widget.nodeTypes = [of.__name__]
            self.signal = "currentNodeChanged(vtkMRMLNode*)"
            self.read, self.write = widget.currentNode, widget.setCurrentNode
        elif (
            kind in (qt.QSpinBox, qt.QSlider)
            and of is int
            or kind in (qt.QDoubleSpinBox, ctk.ctkSliderWidget)
            and (of is float)
        ):
            self.signal = "valueChanged(int)" if of is int else "valueChanged(double)"
            # Without a range the real connector takes away that of the .ui file too.
            low, high = (-(2**31), 2**31 - 1) if of is int else (float("-inf"), float("inf"))
            bounds = next(
                ((v.minimum, v.maximum) for v in parameter.validators if isinstance(v, WithinRange)), (low, high)
            )
            widget.minimum, widget.maximum = bounds
            self.read, self.write = lambda: widget.value, lambda value: setattr(widget, "value", value)
        elif kind is qt.QCheckBox and of is bool:
            self.signal = "toggled(bool)"
            self.read, self.write = lambda: widget.checked, lambda value: setattr(widget, "checked", value)
        elif kind is qt.QLineEdit and of is str:
            self.signal = "textChanged(QString)"
            self.read, self.write = lambda: widget.text, lambda value: setattr(widget, "text", value)
        elif kind is qt.QComboBox and issubclass(of, enum.Enum):
            members, label = list(of), getattr(of, "label", lambda member: member.name)
            widget.clear()
            for member in members:
                widget.addItem(label(member))
            self.signal = "currentIndexChanged(int)"
            self.read = lambda: members[widget.currentIndex]
            self.write = lambda value: setattr(widget, "currentIndex", members.index(value))
        else:
            raise RuntimeError(f"Unable to create GUI connector from {of} to {kind.__name__}")


def parameterNodeWrapper(cls):
    """Class decorator: typed attributes over a vtkMRMLScriptedModuleNode, and `connectGui`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: _Parameter(name, hint, cls) for name, hint in hints.items()}

    def initialise(self, parameterNode):
        self.parameterNode, self._guis, self._updating, self._next = parameterNode, {}, False, 0
        self._observers = {}
        for parameter in parameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default)

    def connect_gui(self, ui):
        """Returns nothing, as the real one does while Slicer issue 7547 is open."""
        connect_parameters_to_gui(self, {w.property(_PROPERTY): w for w in vars(ui).values() if w.property(_PROPERTY)})

    def connect_parameters_to_gui(self, widgets):
        for name in widgets:
            if name not in parameters:
                raise ValueError(f"Cannot find a param with the given name: {name}")
        self._next += 1
        tag, connectors = self._next, [_Connector(widget, parameters[name]) for name, widget in widgets.items()]

        def changed(connector):
            if not self._updating and tag in self._guis:
                setattr(self, connector.parameter.name, connector.read())

        self._guis[tag] = [(c, (lambda *_, c=c: changed(c))) for c in connectors]
        for connector, callback in self._guis[tag]:
            connector.write(connector.parameter.read(self.parameterNode))
            connector.widget.connect(connector.signal, callback)
        self._observers[tag] = self.parameterNode.AddObserver("ModifiedEvent", lambda *_: update_gui(self))
        return tag

    def update_gui(self):
        if self._updating:
            return
        self._updating = True
        try:
            for entries in self._guis.values():
                for connector, _ in entries:
                    connector.write(connector.parameter.read(self.parameterNode))
        finally:
            self._updating = False

    def disconnect_gui(self, tag):
        # The real wrapper leaves its observer; VTK may call one whose Python side was collected meanwhile.
        if tag not in self._guis:
            return
        self.parameterNode.RemoveObserver(self._observers.pop(tag))
        for connector, callback in self._guis.pop(tag):
            connector.widget.disconnect(connector.signal, callback)

    for name, parameter in parameters.items():
        setattr(
            cls,
            name,
            property(
                lambda self, p=parameter: p.read(self.parameterNode),
                lambda self, value, p=parameter: p.write(self.parameterNode, value),
            ),
        )
    cls.__init__ = initialise
    cls.connectGui, cls.connectParametersToGui, cls.disconnectGui = (
        connect_gui,
        connect_parameters_to_gui,
        disconnect_gui,
    )
    cls.AddObserver = lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
        event, callback, priority
    )
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.StartModify = lambda self: self.parameterNode.StartModify()
    cls.EndModify = lambda self, modified: self.parameterNode.EndModify(modified)
    cls.Modified = lambda self: self.parameterNode.Modified()
    return cls


def make_module(slicer) -> None:
    """Register the module as `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for value in (parameterNodeWrapper, Default, WithinRange, Choice):
        setattr(module, value.__name__, value)
    slicer.parameterNodeWrapper = sys.modules[module.__name__] = module
