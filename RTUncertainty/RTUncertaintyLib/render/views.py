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

_LEGEND_WIDTH, _LEGEND_HEIGHT = 0.06, 0.6  # share of the view; the text is as large as these allow
_SLICE_MANAGERS = ("vtkMRMLModelSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D",
                   "vtkMRMLColorLegendDisplayableManager")
_THREE_D_MANAGERS = ("vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager",
                     "vtkMRMLModelDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D")


def slice_picture(slicer_scene, name: str, size: tuple[int, int], title: str) -> np.ndarray:
    """The slice view Red, Green or Yellow of a headless scene as uint8 pixels (height, width, 3)."""
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
    _announce_layers(logic.GetSliceCompositeNode())
    renderer.AddViewProp(_title(title, size))
    _size_legends(window)
    pixels = _grab(window)
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return pixels


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


def _announce_layers(composite) -> None:
    """Tell the legends' manager which volumes are shown: it learns of legends that are older than itself only by this."""
    flags = composite.ForegroundVolumeFlag | composite.BackgroundVolumeFlag
    for _ in range(2):  # the first makes the legends' actors, the second draws those of visible volumes
        composite.SetInteractionFlags(flags)
        composite.Modified()
    composite.SetInteractionFlags(0)


def _size_legends(window) -> None:
    """Let the legend's text follow the legend's size: without the application's fonts the node's font size is not kept."""
    renderers = window.GetRenderers()
    for index in range(renderers.GetNumberOfItems()):
        props = renderers.GetItemAsObject(index).GetViewProps()
        for prop in (props.GetItemAsObject(i) for i in range(props.GetNumberOfItems())):
            if prop.IsA("vtkScalarBarActor"):
                prop.UnconstrainedFontSizeOff()
                prop.SetBarRatio(0.3)
                prop.SetTextPad(-5)
                prop.SetWidth(_LEGEND_WIDTH)
                prop.SetHeight(_LEGEND_HEIGHT)
                prop.SetPosition(0.985 - _LEGEND_WIDTH, 0.5 * (1.0 - _LEGEND_HEIGHT))


def _title(text: str, size: tuple[int, int], color: tuple = (0.85, 0.85, 0.85)):
    """A text in the upper left corner of an area of `size` pixels."""
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(12, size[1] - 12)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(17)
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
