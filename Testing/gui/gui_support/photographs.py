"""Pictures of panels off screen, each with a line that says what it shows: stand-ins for Slicer's widgets."""

from PySide6 import QtCore, QtGui, QtWidgets

WIDTH, STRIP = 430, 22
"""Pixels of Slicer's module panel, and of the line below a picture."""
WORDS = "Off screen, with stand-ins for Slicer's own widgets"


def dark() -> None:
    """Give the application the dark style, as Slicer's has it."""
    QtWidgets.QApplication.setStyle("Fusion")
    palette = QtGui.QPalette()
    for role, color in (
        (palette.ColorRole.Window, "#323232"),
        (palette.ColorRole.Base, "#242424"),
        (palette.ColorRole.AlternateBase, "#2d2d2d"),
        (palette.ColorRole.Button, "#3a3a3a"),
        (palette.ColorRole.Highlight, "#2a82da"),
        (palette.ColorRole.ToolTipBase, "#242424"),
    ):
        palette.setColor(role, QtGui.QColor(color))
    for role in (palette.ColorRole.WindowText, palette.ColorRole.Text, palette.ColorRole.ButtonText):
        palette.setColor(role, QtGui.QColor("#f0f0f0"))
        palette.setColor(palette.ColorGroup.Disabled, role, QtGui.QColor("#8a8a8a"))
    palette.setColor(palette.ColorRole.PlaceholderText, QtGui.QColor("#9a9a9a"))
    palette.setColor(palette.ColorRole.Link, QtGui.QColor("#7ab8f5"))
    QtWidgets.QApplication.setPalette(palette)


def labelled(picture: QtGui.QImage) -> QtGui.QImage:
    """The picture with the line below it."""
    sheet = QtGui.QImage(picture.width(), picture.height() + STRIP, QtGui.QImage.Format.Format_RGB888)
    sheet.fill(QtGui.QColor("#444444"))
    painter = QtGui.QPainter(sheet)
    painter.drawImage(0, 0, picture)
    painter.setPen(QtGui.QColor("white"))
    place = QtCore.QRect(8, picture.height(), picture.width() - 16, STRIP)
    painter.drawText(place, QtCore.Qt.AlignmentFlag.AlignVCenter, WORDS)
    painter.end()
    return sheet


def grab(host) -> QtGui.QImage:
    """A panel at its full height, at least as high as it stands, at Slicer's width."""
    for _round in range(2):  # tables get their heights from the width
        host.resize(WIDTH, max(host.height, QtWidgets.QWidget.sizeHint(host).height()))
        QtWidgets.QApplication.processEvents()
    return host.grab().toImage()


def panel(host, file) -> None:
    """Save the picture of a panel, labelled."""
    labelled(grab(host)).save(str(file))
