"""One slice view or 3-D view as an array of pixels."""

from __future__ import annotations

import os

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

if not os.environ.get("DISPLAY") and os.name == "posix":
    # Without a display VTK would first try X and complain.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

_SLICE_MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D")
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
_SOFT = (0.85, 0.85, 0.85)
_BAR_MM = 50.0


def slice_picture(slicer_scene, name: str, size: tuple[int, int], title: str) -> np.ndarray:
    """The slice view Red, Green or Yellow of a headless scene as uint8 pixels (height, width, 3).

    With the patient's directions at the edges (R, L, A, P, S, I) and a bar of 5 cm.
    """
    logic = slicer_scene.slice_logics[name]
    window, renderer = _window(size)
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddActor2D(actor)
    group = _managers(slicer.vtkMRMLSliceViewDisplayableManagerFactory, _SLICE_MANAGERS, slicer_scene, renderer)
    group.SetMRMLDisplayableNode(logic.GetSliceNode())
    mapper.SetInputConnection(logic.GetImageDataConnection())
    renderer.AddViewProp(_title(title, size))
    left, right, bottom, top = directions(logic.GetSliceNode().GetSliceToRAS())
    width, height = size
    for letter, place in (
        (left, (8, height // 2)),
        (right, (width - 20, height // 2)),
        (bottom, (width // 2 - 6, 26)),
        (top, (width // 2 - 6, height - 8)),
    ):
        renderer.AddViewProp(_text(letter, place))
    renderer.AddViewProp(_text("5 cm", (12, 36), 15))
    pixels = _grab(window)
    length = round(_BAR_MM / logic.GetSliceNode().GetFieldOfView()[0] * width)
    pixels[-13:-11, 12 : 12 + length] = 230
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return pixels


def directions(slice_to_ras) -> tuple[str, str, str, str]:
    """The patient's directions at the left, right, bottom and top edge of a slice view, by the nearest axis."""
    letters = []
    for column in (0, 1):
        axis = [slice_to_ras.GetElement(row, column) for row in range(3)]
        nearest = int(np.argmax(np.abs(axis)))
        pair = ("LR", "PA", "IS")[nearest]  # RAS: R, A and S are the positive ends
        letters += pair if axis[nearest] > 0 else reversed(pair)
    return tuple(letters)


def three_d_picture(slicer_scene, size: tuple[int, int], title: str, names: list[tuple[str, tuple]]) -> np.ndarray:
    """The 3-D view of a headless scene, on black, as uint8 pixels (height, width, 3).

    `names` are the structures' names and colours (0..1), written into the lower left corner.
    """
    window, renderer = _window(size)
    view = slicer_scene.view_node
    view.SetBackgroundColor(0.0, 0.0, 0.0)
    view.SetBackgroundColor2(0.0, 0.0, 0.0)
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    group = _managers(slicer.vtkMRMLThreeDViewDisplayableManagerFactory, _THREE_D_MANAGERS, slicer_scene, renderer)
    group.SetMRMLDisplayableNode(view)
    camera = slicer_scene.camera_node
    renderer.SetActiveCamera(camera.GetCamera())
    renderer.SetUseDepthPeeling(True)
    renderer.ResetCameraClippingRange()
    renderer.AddViewProp(_title(title, size))
    for row, (name, color) in enumerate(names):
        renderer.AddViewProp(_title(name, (size[0], 40 + 24 * (len(names) - 1 - row)), color))
    pixels = _grab(window)
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return pixels


def text_picture(text: str, size: tuple[int, int], font_size: int = 20) -> np.ndarray:
    """A line of white text on black as uint8 pixels (height, width, 3)."""
    window, renderer = _window(size)
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(14, size[1] // 2)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(font_size)
    style.SetVerticalJustificationToCentered()
    style.SetColor(1.0, 1.0, 1.0)
    renderer.AddViewProp(actor)
    pixels = _grab(window)
    window.Finalize()
    return pixels


def legend_picture(volume, lines: list[str], labels: int, label_format: str, size: tuple[int, int]) -> np.ndarray:
    """The colours of a volume node as an upright bar with numbers below `lines` of text; uint8 (height, width, 3)."""
    window, renderer = _window(size)
    display = volume.GetDisplayNode()
    table = vtk.vtkLookupTable()
    table.DeepCopy(display.GetColorNode().GetLookupTable())
    table.SetTableRange(display.GetWindowLevelMin(), display.GetWindowLevelMax())
    bar = vtk.vtkScalarBarActor()
    bar.SetLookupTable(table)
    bar.SetNumberOfLabels(labels)
    bar.SetLabelFormat(label_format)
    bar.SetMaximumNumberOfColors(256)
    bar.SetUseOpacity(True)
    bar.UnconstrainedFontSizeOn()
    bar.SetPosition(0.1, 0.2)
    bar.SetWidth(0.85)
    bar.SetHeight(0.6)
    bar.SetBarRatio(0.28)
    style = bar.GetLabelTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(17)
    style.SetBold(False)
    style.SetItalic(False)
    style.SetShadow(False)
    renderer.AddViewProp(bar)
    for row, line in enumerate(reversed(lines)):
        renderer.AddViewProp(_text(line, (12, round(size[1] * 0.8) + 44 + 24 * row), 17))
    pixels = _grab(window)
    window.Finalize()
    return pixels


def _window(size: tuple[int, int]):
    """An off-screen window with a black renderer and an interactor, which displayable managers ask for."""
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(0.0, 0.0, 0.0)
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return window, renderer


def _managers(factory_class, names, slicer_scene, renderer):
    """The displayable managers of a view."""
    factory = factory_class.GetInstance()
    factory.SetMRMLApplicationLogic(slicer_scene.application_logic)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    return factory.InstantiateDisplayableManagers(renderer)


def _title(text: str, size: tuple[int, int], color: tuple = _SOFT):
    """A text in the upper left corner of an area of `size` pixels."""
    return _text(text, (12, size[1] - 12), 17, color)


def _text(text: str, place: tuple[int, int], font_size: int = 16, color: tuple = _SOFT):
    """A text whose upper left corner is at `place`, pixels from the lower left."""
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(*place)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(font_size)
    style.SetVerticalJustificationToTop()
    style.SetColor(*color)
    style.SetShadow(True)
    return actor


def _grab(window) -> np.ndarray:
    """Render and read the pixels, first row at the top."""
    window.Render()
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()
