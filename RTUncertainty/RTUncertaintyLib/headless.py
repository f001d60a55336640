"""A scene with 3D Slicer's own logics where there is no application: on the `slicer-core` libraries."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtbackend.errors import InputError

SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


def import_slicer():
    """The `slicer` package with the MRML classes. Raises `InputError` when it is not installed."""
    try:
        import slicer
    except ImportError as error:
        raise InputError("3D Slicer's libraries are not installed here: run this inside Slicer, or install them with "
                         "`pip install slicer-core`.") from error
    if not hasattr(slicer, "vtkMRMLSegmentationNode"):
        raise InputError("The `slicer` package found here lacks the MRML classes: run this inside Slicer, or in a Python "
                         "with `pip install slicer-core`.")
    return slicer


def in_application() -> bool:
    """Whether this runs inside the Slicer application (or a stand-in of it)."""
    slicer = import_slicer()
    return getattr(slicer, "app", None) is not None


@dataclass
class HeadlessSlicer:
    """A scene and the logics that keep it alive; hold on to it as long as the scene is used.

    `slice_logics` maps Red, Green and Yellow to their `vtkMRMLSliceLogic`; it is empty until `add_views`.
    """

    scene: object
    application_logic: object
    logics: list = field(default_factory=list)
    slice_logics: dict = field(default_factory=dict)
    view_node: object = None
    camera_node: object = None


def new_scene() -> HeadlessSlicer:
    """An empty scene in which volumes, segmentations, tables, colour legends and the subject hierarchy work.

    It becomes `slicer.mrmlScene` when there is no application, because `slicer.util` asks for that.
    """
    slicer = import_slicer()
    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    logics = []
    # The plain colour logic: vtkSlicerColorLogic looks for the application's colour files and complains without them.
    for logic_class in (slicer.vtkMRMLColorLogic, slicer.vtkSlicerVolumesLogic, slicer.vtkSlicerSegmentationsModuleLogic,
                        slicer.vtkSlicerTablesLogic):
        logic = logic_class()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        logics.append(logic)
    application_logic.SetColorLogic(logics[0])
    for node_class in (slicer.vtkMRMLColorLegendDisplayNode, slicer.vtkMRMLSequenceBrowserNode, slicer.vtkMRMLCameraNode):
        if not scene.IsNodeClassRegistered(node_class.__name__):
            scene.RegisterNodeClass(node_class())
    slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    if not in_application():
        slicer.mrmlScene = scene
    return HeadlessSlicer(scene, application_logic, logics)


def add_views(headless: HeadlessSlicer, size: tuple[int, int] = (500, 500)) -> None:
    """Add the four-up layout, its slice nodes and composite nodes and a 3-D view with a camera, as the application has.

    `size` is the views' width and height in pixels. Does nothing when the views are there already.
    """
    if headless.slice_logics:
        return
    import vtk

    slicer = import_slicer()
    scene = headless.scene
    headless.application_logic.SetSliceLogics(vtk.vtkCollection())
    headless.application_logic.SetViewLogics(vtk.vtkCollection())
    for name, orientation in SLICE_VIEWS.items():
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(headless.application_logic)
        logic.SetMRMLScene(scene)
        node = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        if node is None:
            node = logic.AddSliceNode(name)
            node.SetOrientation(orientation)
        else:
            logic.SetSliceNode(node)
        headless.application_logic.GetSliceLogics().AddItem(logic)
        logic.ResizeSliceNode(*size)
        headless.slice_logics[name] = logic
    headless.view_node = scene.GetSingletonNode("1", "vtkMRMLViewNode") or _add_view_node(slicer, scene)
    cameras = [c for c in _nodes(scene, "vtkMRMLCameraNode") if c.GetLayoutName() == "1"]
    headless.camera_node = cameras[0] if cameras else _add_camera_node(slicer, scene)
    if scene.GetFirstNodeByClass("vtkMRMLLayoutNode") is None:
        layout = slicer.vtkMRMLLayoutNode()
        layout.SetName("Layout")
        layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        scene.AddNode(layout)


def _nodes(scene, class_name: str) -> list:
    """The nodes of a class."""
    found = scene.GetNodesByClass(class_name)
    return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]


def _add_view_node(slicer, scene):
    """The 3-D view that the application calls View1."""
    view = slicer.vtkMRMLViewNode()
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetLayoutLabel("1")
    view.SetSingletonTag("1")
    return scene.AddNode(view)


def _add_camera_node(slicer, scene):
    """The camera of View1."""
    camera = slicer.vtkMRMLCameraNode()
    camera.SetName("Camera")
    camera.SetLayoutName("1")
    camera.SetSingletonTag("1")
    return scene.AddNode(camera)
