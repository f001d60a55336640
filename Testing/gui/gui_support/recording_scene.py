"""The real scene code, with a list of what it was asked; `error` makes loading fail."""

from RTUncertaintyLib import scene


class RecordingScene:
    def __init__(self):
        self.calls, self.error, self._scene = [], None, scene

    def load_result(self, folder, scene=None, input_node=None):
        self.calls.append(("load", str(folder)))
        if self.error:
            raise self.error
        return self._scene.load_result(folder, scene=scene, input_node=input_node)

    def __getattr__(self, name):
        function = getattr(self._scene, name)

        def record(first, *arguments, **named):
            self.calls.append((name, *arguments))
            if self.error and name.startswith("load_"):
                raise self.error
            return function(first, *arguments, **named)

        return record
