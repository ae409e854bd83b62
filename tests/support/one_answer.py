"""What a sweep prints, writes and draws, held against one another."""

import html
import re

import numpy as np
import pandas as pd
from command import Ran

from pertexp.report.sentences import short


def assert_one_answer(done: Ran) -> pd.DataFrame:
    """Every verdict, and every mean of the primary metric, is the same on the console, in CSV files and on the page.

    Returns the comparisons.
    """
    folder = done.folder.parent
    console = " ".join(done.out.split("folds together", 1)[1].split())
    source = (folder / "report.html").read_text()
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", source)).split())
    comparisons = pd.read_csv(folder / "comparison.csv")
    assert len(comparisons)
    for row in comparisons.to_dict("records"):
        numbers = f"{short(row['difference'], '+')} [{short(row['low'])}, {short(row['high'])}]"
        if row["outcome"] in ("too few units", "mostly undefined"):
            numbers = short(row["difference"], "+")
        assert numbers in console, (row, console)
        assert numbers in page, row
        words = {"better": "beats", "worse": "is worse than", "not different": "does not beat"}.get(row["outcome"])
        if row["basis"] != "setting" and words is not None:
            said = f"{row['model']} {words} {row['reference']} on {row['metric']}: difference {numbers}"
            assert said in console
            assert said in page
    table = pd.read_csv(folder / "sweep.csv")
    primary = comparisons["metric"].iloc[0]
    on_page = {float(value) for value in re.findall(r'data-value="([^"]+)"', source)}
    for mean, sd in zip(table[primary], table[f"{primary}_sd"], strict=True):
        assert f"{mean:.4f}{'' if np.isnan(sd) else f' ± {sd:.3f}'}" in console
        assert any(np.isclose(mean, value, rtol=1e-9) for value in on_page)
    return comparisons
