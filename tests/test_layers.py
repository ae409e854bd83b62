"""Imports point down: a module imports its own layer and those beneath it, and no two modules import one another."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

COMMANDS = (
    "run",
    "evaluate",
    "predict",
    "calibrate",
    "convert",
    "report.__main__",
)
# From the top; packages of one layer do not import one another.
LAYERS: list[tuple[str, ...]] = [
    COMMANDS,
    ("experiment",),
    ("tasks",),
    ("report", "inference"),
    ("evaluation",),
    ("models",),
    ("training",),
    ("data",),
    ("runs",),
    ("losses", "metrics"),
    ("nn",),
    ("config", "threads", "__init__"),
]


def place(module: str) -> tuple[int, str]:
    """Layer and package of a module, `a.b` for pertexp.a.b."""
    for number, names in enumerate(LAYERS):
        for name in names:
            if module == name or module.startswith(f"{name}."):
                return number, "commands" if number == 0 else "base" if number == len(LAYERS) - 1 else name
    raise AssertionError(f"pertexp.{module} stands in no layer")


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports anywhere, in functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if is_module(name) else node.module for name in whole)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT / "pertexp").with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / "pertexp").rglob("*.py"))
    }


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module):
    own, package = place(module)
    for name in imports(modules()[module]):
        inner = name.removeprefix("pertexp").lstrip(".")
        if not name.startswith("pertexp") or not inner:
            continue
        other, imported = place(inner)
        assert other >= own, f"pertexp.{module} imports {name}, which lies above it"
        assert other > own or imported == package, f"pertexp.{module} imports {name}, of its own layer"


def test_no_package_holds_more_than_a_quarter_of_the_lines():
    lines: dict[str, int] = {}
    for module, path in modules().items():
        name = module.split(".")[0]
        lines[name] = lines.get(name, 0) + len(path.read_text(encoding="utf-8").splitlines())
    total = sum(lines.values())
    assert {name: count for name, count in lines.items() if count > total / 4} == {}
