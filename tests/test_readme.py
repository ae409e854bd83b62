"""Every line that README and docs/ tell people to type is one that the command understands."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = "\n".join(block for text in TEXTS for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL))
OWN_FILE = ["data=screen", "data.path=my.h5ad", "data.perturbation_key=guide", "data.control=NT"]


def typed_lines() -> list[str]:
    """The overrides of every `python -m pertexp.run ...` and `make run ARGS="..."` in a block of code."""
    direct = re.findall(r"^python -m pertexp\.run ([^#\n]+)", BLOCKS, flags=re.MULTILINE)
    made = re.findall(r'^make run ARGS="([^"]+)"', BLOCKS, flags=re.MULTILINE)
    return [line.strip() for line in direct + made]


def other_commands() -> list[tuple[str, str]]:
    """Command and words of every line for `pertexp.predict`, `evaluate` and `calibrate`."""
    return re.findall(r"^python -m pertexp\.(predict|evaluate|calibrate) ([^#\n]+)", BLOCKS, flags=re.MULTILINE)


def typed_options() -> list[str]:
    """The code in the right column of the table on one's own file."""
    rows = re.findall(r"^\| .+? \| (.+) \|$", README, flags=re.MULTILINE)
    codes = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    return [code for code in codes if re.match(r"'?data[./]\S*=", code)]


def words_of(line: str) -> list[str]:
    """The words of a line, places that it leaves open as if they were names."""
    return [re.sub(r"[<>]", "", word) for word in shlex.split(line) if not word.startswith("-")]


def composed(words: list[str]) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose("run", overrides=words)


def test_readme_holds_what_is_looked_for_here():
    assert len(typed_lines()) >= 10
    assert len(typed_options()) >= 8
    assert {command for command, _ in other_commands()} == {"predict", "evaluate", "calibrate"}


@pytest.mark.parametrize("line", typed_lines())
def test_a_line_of_readme_composes(line):
    words = words_of(line)
    sweeps = [override.is_sweep_override() for override in OverridesParser.create().parse_overrides(words)]
    assert any(sweeps) == ("-m" in shlex.split(line))
    pairs = zip(words, sweeps, strict=True)
    first = [re.sub(r"=([^,\[\]{}]+),.*$", r"=\1", word) if sweep else word for word, sweep in pairs]
    composed(first)


@pytest.mark.parametrize(("command", "line"), other_commands())
def test_a_line_for_another_command_composes(command, line):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(command, overrides=words_of(line))
    assert set(config) >= {"paths"}


@pytest.mark.parametrize("option", typed_options())
def test_an_option_for_ones_own_file_composes(option):
    composed([*OWN_FILE, *words_of(option)])
