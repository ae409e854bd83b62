"""From what a page says to one self-contained HTML file."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pertexp.report.tables import interval, number, signed, significant
from pertexp.runs.record import whole

PAGE = "report.html"
_PACKAGE = "pertexp.report"


def write_html(path: Path, template: str, values: Mapping[str, Any]) -> Path:
    """Render a template of this package, with its style and script put in, whole or not at all."""
    package = files(_PACKAGE)
    # What is our own goes in as it is; every other value is escaped.
    own = {name: Markup((package / name).read_text(encoding="utf-8")) for name in ("style.css", "table.js")}  # noqa: S704
    text = _templates().get_template(template).render(style=own["style.css"], script=own["table.js"], **values)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def breakable(name: str) -> Markup:
    """A name that a narrow column may break after `_`, `/` and `+`, and nowhere else."""
    return Markup(re.sub(r"([_/+])(?=\w)", r"\1<wbr>", str(escape(name))))  # noqa: S704  (escaped just here)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        auto_reload=False,  # a long sweep keeps the templates that it began with
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Figures are drawn here, and matplotlib escapes the names in them.
    made.filters |= {"drawn": Markup, "breakable": breakable}
    made.filters |= {"number": number, "signed": signed, "significant": significant}
    made.globals["interval"] = interval
    return made
