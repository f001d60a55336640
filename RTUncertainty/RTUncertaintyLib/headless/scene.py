"""A scene with 3D Slicer's own logics where there is no application: on the `slicer-core` libraries."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from rtuncertainty.core.errors import InputError

SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
# As the application's own layout has them; its view bars would turn grey otherwise.
_LABELS_AND_COLORS = {
    "Red": ("R", (0.952941, 0.290196, 0.2)),
    "Green": ("G", (0.431373, 0.690196, 0.294118)),
    "Yellow": ("Y", (0.929412, 0.835294, 0.298039)),
}
# The application warns when a scene was written by another application or a later version than itself.
_SCENE_VERSION = "Slicer 5.10.0 0"
# The application has its own description of this layout; the node only needs one to accept the number.
_FOUR_UP = '<layout type="vertical"></layout>'


def import_slicer():
    """The `slicer` package with the MRML classes. Raises `InputError` when it is not installed."""
    try:
        import slicer
    except ImportError as error:
        raise InputError(
            "3D Slicer's libraries are not installed here: run this inside Slicer, or install them with "
            "`pip install slicer-core`."
        ) from error
    if not hasattr(slicer, "vtkMRMLSegmentationNode"):
        raise InputError(
            "The `slicer` package found here lacks the MRML classes: run this inside Slicer, or in a Python "
            "with `pip install slicer-core`."
        )
    return slicer


def quiet_vtk() -> None:
    """Keep VTK's own messages off standard error: a command says what is wrong in one line itself."""
    import_slicer()
    import vtk

    vtk.vtkObject.GlobalWarningDisplayOff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)


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

    def close(self) -> None:
        """Take the slice views from the scene, before both are let go: a view must not see the scene being taken
        apart.
        """
        for logic in self.slice_logics.values():
            logic.SetMRMLScene(None)
        self.slice_logics.clear()


def new_scene() -> HeadlessSlicer:
    """An empty scene in which volumes, segmentations, tables, colour legends and the subject hierarchy work.

    It becomes `slicer.mrmlScene` when there is no application, because `slicer.util` asks for that.
    """
    slicer = import_slicer()
    scene = slicer.vtkMRMLScene()
    scene.SetVersion(_SCENE_VERSION)
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    logics = []
    # The plain colour logic: vtkSlicerColorLogic looks for the application's colour files and complains without them.
    for logic_class in (
        slicer.vtkMRMLColorLogic,
        slicer.vtkSlicerVolumesLogic,
        slicer.vtkSlicerSegmentationsModuleLogic,
        slicer.vtkSlicerTablesLogic,
        slicer.vtkSlicerSequencesLogic,
    ):
        logic = logic_class()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        logics.append(logic)
    application_logic.SetColorLogic(logics[0])
    for node_class in (
        slicer.vtkMRMLColorLegendDisplayNode,
        slicer.vtkMRMLSequenceBrowserNode,
        slicer.vtkMRMLCameraNode,
    ):
        if not scene.IsNodeClassRegistered(node_class.__name__):
            scene.RegisterNodeClass(node_class())
    slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    _remove_items_with_nodes(scene)
    if not in_application():
        slicer.mrmlScene = scene
    return HeadlessSlicer(scene, application_logic, logics)


def _remove_items_with_nodes(scene) -> None:
    """Remove a node's subject-hierarchy item with it, as the application's plugins do.

    Without that, removing a branch with a folder in it never returns.
    """
    scene.AddObserver(import_slicer().vtkMRMLScene.NodeAboutToBeRemovedEvent, _item_remover())


@cache
def _item_remover():
    """The one callback for all scenes. Kept for good: one that went with its scene would be called half destroyed."""
    import vtk

    slicer = import_slicer()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def about_to_be_removed(caller, _event, node):
        if caller is None or node is None or caller.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(caller)
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    return about_to_be_removed


def open_scene(headless: HeadlessSlicer, file) -> None:
    """Read a scene file (`.mrb` or `.mrml`) into a scene. Raises `InputError` when that fails."""
    import tempfile
    from pathlib import Path

    slicer = import_slicer()
    scene, file = headless.scene, Path(file)
    if not file.is_file():
        raise InputError(f"{file}: there is no such file.")
    with tempfile.TemporaryDirectory() as unpacked:
        if file.suffix == ".mrb":
            cache = slicer.vtkCacheManager()
            cache.SetRemoteCacheDirectory(unpacked)
            data = slicer.vtkDataIOManager()
            data.SetCacheManager(cache)
            cache.SetMRMLScene(scene)
            scene.SetCacheManager(cache)
            scene.SetDataIOManager(data)
            done = scene.ReadFromMRB(str(file))
        else:
            scene.SetURL(str(file))
            done = scene.Import()
    if not done:
        raise InputError(f"{file}: cannot be read as a scene; it is damaged or no Slicer scene.")


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
            node.SetLayoutLabel(_LABELS_AND_COLORS[name][0])
            node.SetLayoutColor(*_LABELS_AND_COLORS[name][1])
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
        layout.SetSingletonTag("vtkMRMLLayoutNode")
        four_up = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        layout.AddLayoutDescription(four_up, _FOUR_UP)
        layout.SetViewArrangement(four_up)
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
