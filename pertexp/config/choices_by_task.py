"""Choices that are sorted by task in the configuration tree, and typed by their name alone.

`data/split=line` is data/split/pairs/line.yaml. Hydra takes the name of a choice for the path of its file; the source
below stands behind the tree on the search path and finds a name in the subfolders of its group. It holds wherever a
configuration is composed: on the command line, in sweeps, in defaults lists, and by `hydra.compose`.
"""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

GROUPS = ("data/split", "model/ablation")  # whose subfolders are tasks, or families


class ChoicesByTask(FileConfigSource):
    """A configuration source that offers the files in the subfolders of a group as choices of the group itself."""

    @staticmethod
    def scheme() -> str:
        """Prefix of this source on the search path."""
        return "choices-by-task"

    def available(self) -> bool:
        """Return whether the tree exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Return whether choices of this group are sorted by task."""
        return config_path.strip("/") in GROUPS

    def is_config(self, config_path: str) -> bool:
        """Return whether a subfolder of a group holds a choice of this name."""
        return self._place(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the file of a choice."""
        return super().load_config(self._place(config_path) or config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return names of the choices of all tasks."""
        if results_filter == ObjectType.GROUP:
            return []
        return sorted(path.stem for path in (Path(self.path) / config_path).glob("*/*.yaml"))

    def _place(self, config_path: str) -> str | None:
        """Return the path below the tree of the file that a name stands for, without its ending."""
        group, _, name = config_path.strip("/").removesuffix(".yaml").rpartition("/")
        if group not in GROUPS:
            return None
        found = sorted((Path(self.path) / group).glob(f"*/{name}.yaml"))
        return str(found[0].relative_to(self.path)) if found else None


class ChoicesByTaskPath(SearchPathPlugin):
    """Search-path plug-in that adds this source after a tree whose groups are sorted by task."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source."""
        trees = [one.path.removeprefix("file://") for one in search_path.get_path() if one.provider == "main"]
        for tree in trees:
            if all((Path(tree) / group).is_dir() for group in GROUPS):
                search_path.append(ChoicesByTask.scheme(), f"{ChoicesByTask.scheme()}://{tree}")


def register() -> None:
    """Let Hydra know both, for every configuration that this process composes from now on."""
    plugins = Plugins.instance()
    plugins.register(ChoicesByTask)
    plugins.register(ChoicesByTaskPath)
