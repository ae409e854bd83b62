"""A default in code is that of the file which names the class, but where the file is one of several choices."""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from omegaconf import OmegaConf
from pair_runs import composed
from places import ROOT

from pertexp.config.validate import typed
from pertexp.models.gears.options import GearsOptions
from pertexp.models.nbglm.module import NBGLMOptions
from pertexp.models.prism.options import PrismOptions

CONF = ROOT / "conf"
# What a file sets to make its choice another than the class by itself.
CHOSEN = {
    "callbacks/default.yaml": {"filename", "monitor", "enable_version_counter"},
    "callbacks/from_epoch.yaml": {"mode", "first_epoch"},
    "data/batches/matched_controls.yaml": {"drop_last"},
    "data/ep_coordinates.yaml": {"name"},
    "data/ep_pairs.yaml": {"name", "expected"},
    "data/ep_table.yaml": {"name"},
    "data/screen.yaml": {"name"},
    "data/simulated_pairs.yaml": {"name", "enhancer_length", "promoter_length"},
    "data/simulated_screen.yaml": {"name"},
    "evaluation/impact.yaml": {"link"},
    "evaluation/pairs.yaml": {"both_strands"},
    "evaluation/screens.yaml": {"link", "trained"},
}
FILES = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Everything in a file that builds an object of ours."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith("pertexp."):
            yield node
        for below in node.values():
            yield from objects(below)


def parameters_of(target: str) -> dict[str, inspect.Parameter]:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:  # a method of a class
        module, _, owner = module.rpartition(".")
        found = getattr(getattr(importlib.import_module(module), owner), name)
    return dict(inspect.signature(found).parameters)


def differing(node: dict[str, Any]) -> set[str]:
    """Plain values that are not the default of the parameter of their name."""
    defaults = {
        name: one.default for name, one in parameters_of(node["_target_"]).items() if one.default is not one.empty
    }
    plain = {name: value for name, value in node.items() if name in defaults and not isinstance(value, dict)}
    written = {name: value for name, value in plain.items() if "${" not in str(value)}
    lists = {name: list(one) if isinstance(one, tuple) else one for name, one in defaults.items()}
    return {name for name, value in written.items() if (type(value), value) != (type(lists[name]), lists[name])} - {
        name for name, one in defaults.items() if repr(one) == "<factory>"
    }


@pytest.mark.parametrize("file", FILES)
def test_defaults_are_written_alike_in_code_and_file(file):
    nodes = objects(OmegaConf.to_container(OmegaConf.load(CONF / file), resolve=False))
    assert {name for node in nodes for name in differing(node)} == CHOSEN.get(file, set())


@pytest.mark.parametrize(
    ("family", "options"), [("nbglm", NBGLMOptions), ("gears", GearsOptions), ("prism", PrismOptions)]
)
def test_the_options_of_a_family_are_those_of_its_files(family, options):
    model = OmegaConf.to_container(composed(f"model={family}").model, resolve=True)
    written = {name: value for name, value in model.items() if name in {field.name for field in fields(options)}}
    assert len(written) == len(fields(options))
    assert typed(options, written, "model") == options()
