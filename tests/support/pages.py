"""Pages as tests read them, and files of run folders as tests change them."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

CURVES = pd.DataFrame({
    "step": range(40), "epoch": np.repeat([0, 1], 20), "train/loss": np.linspace(2, 1, 40),
    "train/task": np.linspace(1, 0.5, 40), "train/sparsity": 0.3, "weight/sparsity": 0.1, "energy/lambda": 0.1,
    "energy/temperature": 1.0, "resistance/line1": 0.2, "resistance/line10": np.nan, "sparsity/invariant": 0.5,
    "val/auprc": [np.nan, 0.6] * 20, "a&b <i>/x": 1.0,
})  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, the text, and the cells of each table as rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, label: str) -> list[dict[str, str | None]]:
        """Attributes of the cells of the first row of that name."""
        at = next(i for i, (tag, seen) in enumerate(self.tags) if tag == "tr" and seen.get("data-row") == label)
        rest = self.tags[at + 1 :]
        end = next((i for i, (tag, _) in enumerate(rest) if tag == "tr"), len(rest))
        return [attributes for tag, attributes in rest[:end] if tag == "td"]


def changed(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
