"""Configuration trees that a command composes from: the package's own, those of plug-ins and of the command line.

A plug-in is an installed distribution with an entry point of the group `pertexp.conf`, whose value is a package that
holds a configuration tree:

    [project.entry-points."pertexp.conf"]
    my_models = "my_models.conf"
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from pertexp.config.errors import DataError

PLUGINS = "pertexp.conf"  # the entry-point group
MODEL = "model"  # the configuration group


def config_folder() -> str:
    """Return the Hydra tree: inside the package of an installed wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


def plugin_trees() -> list[str]:
    """Trees of installed plug-ins, as Hydra writes them (`pkg://my_models.conf`), in the order of their names.

    Raises
    ------
    DataError
        Where a plug-in names a package that cannot be imported, or that holds no configuration tree.
    """
    return list(dict.fromkeys(_tree_of(point) for point in sorted(entry_points(group=PLUGINS))))


def _tree_of(point: Any) -> str:
    tree = f"pkg://{point.value}"
    try:
        found, why = _source(tree).is_group(""), "there is no such package"
    except Exception as fault:  # importing a package runs whatever its author wrote
        found, why = False, f"{type(fault).__name__}: {fault}"
    if not found:
        raise DataError(
            f"the plug-in {point.dist.name} names {point.value} as its configuration (entry point {PLUGINS}), which "
            f"cannot be imported ({why}): install it anew, or uninstall it."
        )
    return tree


class PluginTrees(SearchPathPlugin):
    """Search-path plug-in that adds the trees of other packages after the package's own, which has priority."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them where the tree of this package is composed from."""
        main = [one.path.removeprefix("file://") for one in search_path.get_path() if one.provider == "main"]
        if config_folder() in main:
            for tree in plugin_trees():
                search_path.append(PLUGINS, tree)


def register() -> None:
    """Let Hydra know of plug-ins, for every configuration that this process composes from now on."""
    Plugins.instance().register(PluginTrees)


@dataclass(frozen=True)
class SearchPath:
    """Configuration trees that a person chose, by installing them or by typing them.

    What their files name under `model` may be built; the name alone, as in a checkpoint, is no reason to.

    Attributes
    ----------
    trees
        As Hydra writes them: `file:///folder`, `pkg://package.conf`.
    """

    trees: tuple[str, ...]

    @classmethod
    def installed(cls) -> "SearchPath":
        """Return the tree of this package, and those of plug-ins."""
        return cls((f"file://{config_folder()}", *plugin_trees()))

    @classmethod
    def of_command(cls) -> "SearchPath":
        """Return what the running command composes from, `hydra.searchpath` included."""
        sources = HydraConfig.get().runtime.config_sources
        return cls(tuple(f"{one.schema}://{one.path}" for one in sources if one.schema in ("file", "pkg")))

    def model_targets(self, group: str = "") -> frozenset[str]:
        """Return every `_target_` of the choices of `model`, or of a group below it.

        Parameters
        ----------
        group
            Name of the group below `model`, as `backbone`; any text, for it may come from a file.
        """
        return frozenset(_target(config) for tree in self.trees for config in _choices(_source(tree), group))


def _source(tree: str) -> ConfigSource:
    scheme = tree.partition("://")[0]
    return SourcesRegistry.instance().resolve(scheme)(PLUGINS, tree)


def _choices(source: ConfigSource, group: str) -> Iterator[Any]:
    """Yield the files of `model`, or of a group right below it, as they are written."""
    if not source.is_group(MODEL):
        return
    if group and group not in source.list(MODEL, ObjectType.GROUP):
        return
    place = f"{MODEL}/{group}" if group else MODEL
    for name in source.list(place, ObjectType.CONFIG):
        yield OmegaConf.to_container(source.load_config(f"{place}/{name}").config, resolve=False)


def _target(config: Any) -> str:
    own = config.get(MODEL, config) if isinstance(config, dict) else {}
    return str(own.get("_target_", "")) if isinstance(own, dict) else ""
