"""A panel that is as narrow as Slicer's: what its tables, lists and lines hold never widens it."""

from __future__ import annotations

LEAST = 60
"""Pixels of the narrowest list."""


def keep(ui) -> None:
    """Let the widgets of a panel take the width that there is, instead of asking for that of their contents.

    Slicer makes its module panel as wide as the widget's minimum size hint: a table that hands its contents' width on,
    or a list that hands on its longest entry's, would widen the panel, and then itself again. `ui` comes from
    `slicer.util.childWidgetVariables`.
    """
    import qt

    for widget in vars(ui).values():
        table = widget.inherits("QTableWidget")
        if table:
            widget.setSizeAdjustPolicy(qt.QAbstractScrollArea.AdjustIgnored)
        elif widget.inherits("QComboBox"):
            widget.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
            widget.setMinimumContentsLength(6)
        if table or widget.inherits("qMRMLNodeComboBox") or (widget.inherits("QLabel") and widget.wordWrap):
            policy = widget.sizePolicy
            policy.setHorizontalPolicy(qt.QSizePolicy.Ignored)
            widget.setSizePolicy(policy)
            if not widget.inherits("QLabel"):
                widget.setMinimumWidth(LEAST)
