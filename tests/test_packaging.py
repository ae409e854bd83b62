"""The wheel carries its configuration, runs from an empty folder, and declares what it imports."""

import ast
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from places import ROOT

TINY = [
    "data.simulator.n_genes=30",
    "data.simulator.n_perturbations=15",
    "data.simulator.n_combinations=0",
    "data.simulator.cells_per_perturbation=20",
    "trainer.max_epochs=1",
    "evaluation.n_resamples=20",
]


@pytest.mark.slow
def test_wheel_installs_and_runs_from_an_empty_folder(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # Dependencies come from the environment under test, but not its editable pertexp: nested .pth files are not read.
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    purelib = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PERTEXP"))}
    where = subprocess.run(
        [python, "-c", "import pertexp; print(pertexp.__file__)"],
        cwd=empty, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "env")
    run = [python, "-m", "pertexp.run", *TINY]
    done = subprocess.run(run, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (metrics,) = empty.glob("outputs/runs/*/*/metrics.json")
    models = {row["model"] for row in json.loads(metrics.read_text())["aggregate"]}
    assert {"nbglm", "train_mean", "bilinear_ridge", "replicate"} <= models
    page = metrics.with_name("report.html").read_text()
    assert "nbglm on simulated_screen" in page
    assert "prefers-color-scheme" in page  # its style and script came with the wheel
    assert "addEventListener" in page


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_name(requirement) for requirement in project["dependencies"]}
    distributions = packages_distributions()
    imported = {name for path in (ROOT / "pertexp").rglob("*.py") for name in _imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - {"pertexp"}
    undeclared = {
        name for name in third_party if not {_name(found) for found in distributions.get(name, [name])} & declared
    }
    assert undeclared <= {"yaml", "pydantic_core"}, undeclared  # omegaconf and pydantic bring them, and their errors


def _name(requirement: str) -> str:
    head = requirement.split(">")[0].split("=")[0].split("<")[0].split("[")[0]
    return head.strip().lower().replace("_", "-")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found
