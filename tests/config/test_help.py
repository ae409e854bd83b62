"""The help teaches, and costs no heavy import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from places import ROOT

CONF = ROOT / "conf"
PROBE = """
import sys
sys.argv = ["pertexp.run", "--help"]
from pertexp.run import main
try:
    main()
finally:
    heavy = {"torch", "lightning", "scanpy", "wandb", "anndata", "pandas", "matplotlib", "sklearn", "scipy"}
    print("HEAVY", sorted(heavy & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def shown() -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_ends_well_and_imports_nothing_heavy(shown):
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "HEAVY []"


def test_help_names_every_group_and_choice(shown):
    listed = dict(re.findall(r"^([\w/]+): ([\w, ]+)$", shown.stdout, re.M))
    groups: dict[str, set[str]] = {}
    for path in CONF.rglob("*.yaml"):
        group = path.parent.relative_to(CONF)
        if group != Path():
            groups.setdefault(str(group), set()).add(path.stem)
    assert {group: set(names.split(", ")) for group, names in listed.items() if group in groups} == groups


def test_help_lists_choices_by_task_and_all_together(shown):
    listed = dict(re.findall(r"^([\w/]+): ([\w, ]+)$", shown.stdout, re.M))
    both = [listed[f"data/split/{task}"].split(", ") for task in ("pairs", "screens")]
    assert sorted([*both[0], *both[1]]) == listed["data/split"].split(", ")


def test_help_shows_examples_that_are_not_broken(shown):
    from hydra import compose, initialize_config_dir

    import pertexp.run  # noqa: F401  (its resolvers)

    examples = re.findall(r"^ +python -m pertexp\.run(.*)$", shown.stdout, re.M)
    assert len(examples) >= 3
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for example in examples:
            words = [re.sub(r",.*", "", word) for word in example.split() if word != "-m"]
            assert compose("run", words).model.name == "nbglm"


def test_help_says_how_to_sweep_repeat_and_resume(shown):
    for word in (" -m ", "repeat=", "ckpt_path=", "exit code 2", "--cfg job", "PERTEXP_DATA"):
        assert word in shown.stdout


OWN = ("ckpt", "out", "seed")
HEADS = re.compile(r"^== Of (?:every model|models of (\w+)) ==$", re.M)


def options_of(task: str) -> set[str]:
    from pertexp.tasks.registry import TASKS

    return {name for one in TASKS[task].evaluators.values() for name in one.predicting.names}


def keys_of(text: str) -> set[str]:
    """Names of options in a section of the help: those below `data` with its name."""
    tree = OmegaConf.create(text)
    below = {f"data.{name}" for name in tree.get("data", {})}
    return {str(name) for name in tree if name != "data"} | below


def test_help_of_predict_shows_the_options_of_every_task_under_its_name():
    shown = subprocess.run(
        [sys.executable, "-m", "pertexp.predict", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    parts = HEADS.split(shown)
    sections = {task: keys_of(text) for task, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert sections == {None: set(OWN), "screens": options_of("screens"), "pairs": options_of("pairs")}


@pytest.mark.parametrize("task", ["screens", "pairs"])
def test_the_file_of_a_task_holds_the_options_of_its_class_and_no_others(task):
    assert keys_of((CONF / "predict" / f"{task}.yaml").read_text()) == options_of(task)
