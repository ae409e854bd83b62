"""Render a page as one self-contained HTML file."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template, TemplateNotFound
from markupsafe import Markup, escape

from pertexp.config.errors import DataError
from pertexp.report.tables import interval, number, signed, significant
from pertexp.runs.record import whole

PAGE = "report.html"
OWN = "pertexp.report"  # the package whose templates a page is made of


def write_html(path: Path, template: str, values: Mapping[str, object]) -> Path:
    """Render a template of this package, with its style and script put in, whole or not at all."""
    package = files(OWN)
    # What is our own goes in as it is; every other value is escaped.
    own = {name: Markup((package / name).read_text(encoding="utf-8")) for name in ("style.css", "table.js")}  # noqa: S704
    text = render(template, {"style": own["style.css"], "script": own["table.js"], **values})
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def render(template: str, values: Mapping[str, object], package: str = OWN) -> Markup:
    """Render a template of a package; it may import those of this one.

    Raises
    ------
    DataError
        Where there is no such template.
    """
    return Markup(_template(template, package).render(**values))  # noqa: S704  (escaped within)


def breakable(name: str) -> Markup:
    """Return a name that a narrow column may break after `_`, `/` and `+`, and nowhere else."""
    return Markup(re.sub(r"([_/+])(?=\w)", r"\1<wbr>", str(escape(name))))  # noqa: S704  (escaped just here)


def _template(name: str, package: str) -> Template:
    try:
        return _templates(package).get_template(name)
    except (TemplateNotFound, ImportError, ValueError) as fault:  # the last: the package has no folder of templates
        raise DataError(f"{package} holds no template {name}: expected {package}/templates/{name}.") from fault


@cache
def _templates(package: str) -> Environment:
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys((package, OWN))]),
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
