"""The page in a real browser: it opens in silence, sorts, filters, switches figures and fits a phone."""

import shutil
from pathlib import Path

import pytest
from command import TINY, command
from pages import CURVES
from pair_runs import on_pairs

from pertexp.tasks.registry import write_page

pytestmark = pytest.mark.slow

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, control = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or control is None:
        pytest.skip("no chromium with chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(control))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def run_page(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = command(*TINY, "evaluation=[core,vcc2026]")
    assert done.code == 0, done.err
    return done.folder / "report.html"


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = command("-m", *TINY, "trainer.max_epochs=1", "model.rank=2,8")
    assert done.code == 0, done.err
    return done.folder.parent / "report.html"


@pytest.fixture(scope="module")
def pairs_page(tmp_path_factory) -> Path:
    """Several lines, so that there is a choice of figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = on_pairs("data/split=chromosome", "~evaluation.baselines.kmer_boosting")
    assert done.code == 0, done.err
    CURVES.to_csv(done.folder / "logs" / "metrics.csv", index=False)
    return write_page(done.folder)


@pytest.fixture(params=["run_page", "sweep_page", "pairs_page"])
def either(request) -> Path:
    return request.getfixturevalue(request.param)


def opened(driver, path: Path, width: int = 1440, scheme: str = "light") -> None:
    device = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(path.as_uri())


def shown(driver, css: str) -> list:
    return [element for element in driver.find_elements("css selector", css) if element.is_displayed()]


def typed(driver, name: str, text: str) -> None:
    field = driver.find_element("css selector", f"[data-filter={name}]")
    field.clear()
    field.send_keys(text)


def column(driver, metric: str) -> list[float]:
    """Numbers of a column as they stand, from the top; the replicate has a body of its own."""
    return driver.execute_script(
        """const header = [...document.querySelectorAll("th[data-metric]")]
             .find((cell) => cell.dataset.metric.split(" ")[0] === arguments[0]);
           const rows = [...header.closest("table").tBodies[0].rows];
           return rows.map((row) => parseFloat(row.cells[header.cellIndex].dataset.value));""",
        metric,
    )


def press(driver, metric: str):
    header = driver.find_element("css selector", f'th[data-metric^="{metric} "]')
    header.find_element("tag name", "button").click()
    return header


def test_it_opens_in_silence(driver, either):
    opened(driver, either)
    assert driver.get_log("browser") == []
    assert "simulated_" in driver.find_element("tag name", "h1").text


@pytest.mark.parametrize(("metric", "reverse"), [("pearson_delta", True), ("mse", False)])
def test_a_header_sorts_best_first_then_worst_first(driver, run_page, metric, reverse):
    opened(driver, run_page)
    before = column(driver, metric)
    assert before not in (sorted(before), sorted(before, reverse=True))  # else this test shows nothing
    header = press(driver, metric)
    assert column(driver, metric) == sorted(before, reverse=reverse)
    assert header.get_attribute("aria-sort") == ("descending" if reverse else "ascending")
    press(driver, metric)
    assert column(driver, metric) == sorted(before, reverse=not reverse)
    assert len(driver.find_elements("css selector", "[aria-sort]")) == 1


def test_a_header_sorts_by_keyboard(driver, run_page):
    opened(driver, run_page)
    button = driver.find_element("css selector", 'th[data-metric^="mse "] button')
    button.send_keys("\ue007")
    assert column(driver, "mse") == sorted(column(driver, "mse"))


def test_models_and_metrics_are_found_by_typing(driver, run_page):
    opened(driver, run_page)
    typed(driver, "row", "ridge")
    names = {row.get_attribute("data-row") for row in shown(driver, "#table tbody tr")}
    assert names == {"bilinear_ridge", "bilinear_ridge_log", "kernel_ridge"}
    typed(driver, "row", "")
    typed(driver, "column", "vcc2026")
    assert [family.get_attribute("data-family") for family in shown(driver, "[data-family]")] == ["vcc2026"]
    typed(driver, "column", "pearson_delta_m")
    assert [head.get_attribute("data-metric") for head in shown(driver, "th[data-metric]")] == [
        "pearson_delta_mean core"
    ]
    typed(driver, "column", "no such metric")
    assert not shown(driver, "[data-family]")
    assert shown(driver, "[data-nothing]")


def test_levels_show_more_and_more(driver, run_page):
    opened(driver, run_page)
    level = driver.find_element("css selector", "[data-filter=level]")
    counts = []
    for option in level.find_elements("tag name", "option"):
        option.click()
        counts.append(len(shown(driver, "th[data-metric]")))
        assert f"({counts[-1]})" in option.text
    assert counts[0] < counts[1] < counts[2]


def test_a_choice_switches_the_figure(driver, run_page):
    opened(driver, run_page)
    options = driver.find_elements("css selector", "[data-figures] option")
    titles = []
    for option in options[:3]:
        option.click()
        (figure,) = shown(driver, "#chosen figure")
        titles.append(figure.find_element("tag name", "svg").get_attribute("aria-label"))
        assert titles[-1].startswith(option.text.split(" (")[0])
    assert len(set(titles)) == 3


def test_a_choice_switches_all_figures_of_a_line(driver, pairs_page):
    opened(driver, pairs_page)
    seen = []
    for option in driver.find_elements("css selector", "[data-figures] option"):
        option.click()
        labels = [svg.get_attribute("aria-label") for svg in shown(driver, "#chosen svg")]
        assert len(labels) == 3
        assert all(label.startswith(f"{option.text}: ") for label in labels)
        seen += labels
    assert len(set(seen)) == 9


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits_its_window(driver, either, width):
    opened(driver, either, width)
    driver.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    driver.execute_script(
        """const level = document.querySelector("[data-filter=level]");
           level.value = "detail";
           level.dispatchEvent(new Event("change"));"""
    )
    size = driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert size[0] <= size[1] == width


def test_figures_and_paper_follow_the_dark_scheme(driver, run_page):
    looks = []
    for scheme in ("light", "dark"):
        opened(driver, run_page, scheme=scheme)
        looks.append(
            driver.execute_script(
                """return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                           getComputedStyle(document.querySelector("figure svg text")).fill];"""
            )
        )
    assert all(light != dark for light, dark in zip(*looks, strict=True))
