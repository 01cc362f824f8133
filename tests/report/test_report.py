"""The page of results, as a browser shows it."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from samgap import cli
from samgap.figures.chart import Chart
from samgap.figures.significance import holm
from samgap.report import collected
from samgap.report.__main__ import write
from samgap.report.page import MEANINGS
from tests.check_gpu import made
from tests.conftest import called, config
from tests.test_commands import Command

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PHONE, DESK = (390, 844), (1280, 900)

browsed = pytest.mark.needs("chromium chromium-driver")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with a sweep that lacks two runs, one with too few runs to be drawn, and the page."""
    root = tmp_path_factory.mktemp("root")
    code = called(
        "train", "-m", f"root={root}", "name=mine", f"data_dir={root}/data", "epochs=1", "data.train_size=64",
        "data.holdout=32", "model.width=0.1,0.2,0.3", "ascent.rho=0,0.1", "seed=0,1,2",
    )  # fmt: skip
    assert code == 0
    missing, failed = sorted((root / "runs").glob("*-w0.2-*-seed2-*"))
    (missing / "record.json").unlink()
    (failed / "record.json").unlink()
    (failed / "error.txt").write_text("Traceback\nRuntimeError: the <disk> is full\n")
    shutil.copytree(root / "mine" / "own", root / "empty" / "own")
    sweep = (root / "empty" / "own" / "sweep.yaml").read_text()
    sweep = re.sub(r"(folder: .*)-w0", r"\1-w9", sweep.replace("name: mine", "name: empty"))
    (root / "empty" / "own" / "sweep.yaml").write_text(sweep)
    # The same file as `draw` writes.
    kept = {"draw": config()["draw"] | {"title": "Mine <b>& bold</b>"}}
    (root / "mine" / "own" / "mine.json").write_text(json.dumps(kept))
    (root / "check_gpu").mkdir()
    (root / "check_gpu" / "check-gpu.json").write_text(json.dumps(made.result()))
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        write(root)
    return root


@pytest.fixture(scope="module")
def driver(root: Path) -> Iterator[webdriver.Chrome]:
    """Yield a browser that has opened the page from disk."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    browser.set_window_size(*DESK)
    browser.set_script_timeout(120)
    browser.get((root / "report" / "index.html").as_uri())
    drawn = "const done = arguments[0]; Promise.all(places.map(draw)).then(() => done(''), done);"
    assert browser.execute_async_script(drawn) == ""
    yield browser
    browser.quit()


def collect(root: Path) -> collected.Collected:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        return collected.collect(root)


@pytest.fixture(scope="module")
def shown(root: Path) -> collected.Collected:
    return collect(root)


def article(driver: webdriver.Chrome, anchor: str) -> WebElement:
    return driver.find_element(By.ID, anchor)


@browsed
def test_charts_render_without_a_word_on_the_console_and_no_request_leaves(
    driver: webdriver.Chrome, shown: collected.Collected, root: Path
) -> None:
    groups = [(study.anchor, study.charts) for study in shown.studies]
    together = shown.evidence.tables.charts()
    groups += [("answer", together["slopes"][:1]), ("evidence-slopes", together.pop("slopes")[1:])]
    groups += [(f"evidence-{name}", charts) for name, charts in together.items()]
    charts = [chart for _, several in groups for chart in several]
    assert len(charts) > 36
    drawings = driver.find_elements(By.CSS_SELECTOR, ".chart svg.marks")
    assert len(drawings) == len(charts)
    marks = "return document.querySelectorAll(arguments[0] + ' .mark-symbol.role-mark path').length"
    for anchor, several in groups:
        for number, chart in enumerate(several):
            if isinstance(chart, Chart):
                place = f'[data-spec="{anchor}-{number}"]'
                points = sum(line.points["y"].count() for line in chart.lines if line.look.marker)
                assert driver.execute_script(marks, place) == points, (anchor, chart.title)
    assert driver.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    assert {url for url in requests if url.startswith("file:")} == {(root / "report" / "index.html").as_uri()}
    assert not [url[:80] for url in requests if not url.startswith(("file:", "data:", "blob:"))]


@browsed
def test_a_tooltip_says_n_and_the_interval(driver: webdriver.Chrome) -> None:
    chart = driver.find_element(By.CSS_SELECTOR, '[data-spec="fig10-cpu-reference-0"]')
    points = chart.find_elements(By.CSS_SELECTOR, ".mark-symbol.role-mark path")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", points[1])

    def tip(_: webdriver.Chrome) -> str:
        ActionChains(driver).move_to_element(points[0]).move_to_element(points[1]).perform()
        shown = driver.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible")
        return shown[0].text if shown and "0.516" in shown[0].text else ""

    tooltip = WebDriverWait(driver, 60).until(tip)
    # If two points coincide, the tooltip belongs to the one that is drawn later.
    assert "pruner.sparsity 0.516, 126k: 0.7188 [0.4825, 0.955] (95 % interval), n = 8, ρ=0.2" in tooltip
    assert "ρ chosen on held-out images (95 % interval)" in tooltip


@browsed
def test_points_and_parts_are_reached_by_keyboard(driver: webdriver.Chrome) -> None:
    chart = driver.find_element(By.CSS_SELECTOR, '[data-spec="fig10-cpu-reference-0"]')
    first, second = chart.find_elements(By.CSS_SELECTOR, '.mark-symbol.role-mark path[tabindex="0"]')[:2]
    driver.execute_script("arguments[0].focus()", first)
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert driver.switch_to.active_element == second
    announced = chart.find_element(By.XPATH, "..").find_element(By.CSS_SELECTOR, ".announced")
    assert "n = 8" in announced.text
    details = article(driver, "fig10-cpu-reference").find_elements(By.TAG_NAME, "details")[-1]
    summary = details.find_element(By.TAG_NAME, "summary")
    driver.execute_script("arguments[0].open = false", details)  # the section that was printed before is open
    summary.send_keys(Keys.ENTER)
    assert details.get_attribute("open") is not None
    assert "model.width" in details.text
    assert "commits" in details.text
    # Wide tables can be focused, and so scrolled by keyboard.
    assert all(part.get_attribute("tabindex") == "0" for part in driver.find_elements(By.CSS_SELECTOR, ".wide"))


@browsed
def test_a_phone_need_not_scroll_sideways(driver: webdriver.Chrome, root: Path) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        driver.get((root / "report" / "index.html").as_uri())
        driver.execute_async_script("const done = arguments[0]; Promise.all(places.map(draw)).then(() => done(''));")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
        widths = driver.execute_script(
            "return [...document.querySelectorAll('.chart svg.marks')].map((svg) => svg.getBoundingClientRect().width)"
        )
        assert max(widths) <= PHONE[0]
        cut = driver.execute_script(
            "return [...document.querySelectorAll('.chart svg.marks')].flatMap((svg) =>"
            " [...svg.querySelectorAll('text')]"
            ".filter((text) => text.getBoundingClientRect().right > svg.getBoundingClientRect().right + 1)"
            ".map((text) => text.textContent))"
        )
        assert cut == []
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@browsed
def test_paper_has_what_is_folded_away(driver: webdriver.Chrome) -> None:
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert driver.execute_script("return [...document.querySelectorAll('details')].every((part) => part.open)")
    # The driver's own `print_page` gives up after 10 s, which is too soon for a page of this size on a slow machine.
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"pageRanges": "1"})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


@browsed
def test_links_lead_somewhere(driver: webdriver.Chrome, root: Path) -> None:
    hrefs = [
        link.get_dom_attribute("href")
        for link in driver.find_elements(By.CSS_SELECTOR, "main a:not(.vega-actions a), nav a")
    ]
    assert len(hrefs) > 40
    for href in hrefs:
        if href.startswith("#"):
            assert driver.find_elements(By.ID, href[1:]), href
        else:
            assert (root / "report" / href).exists(), href


@browsed
def test_missing_and_failed_runs_are_named_and_words_of_others_are_no_markup(
    driver: webdriver.Chrome, root: Path
) -> None:
    mine = article(driver, "mine-own")
    assert mine.find_element(By.TAG_NAME, "h3").text == "Mine <b>& bold</b>"
    assert not mine.find_elements(By.CSS_SELECTOR, "h3 b")
    listed = mine.find_element(By.CSS_SELECTOR, ".missing").text
    missing, failed = (path.name for path in sorted((root / "runs").glob("*-w0.2-*-seed2-*")))
    assert f"{missing}: missing" in listed
    assert f"{failed}: failed, the <disk> is full" in listed
    assert "Provisional: 2 runs are missing" in mine.text
    empty = article(driver, "empty-own").text
    assert "Nothing to draw yet: No run of empty/own" in empty


def test_the_page_has_the_numbers_that_draw_prints(
    command: Command, shown: collected.Collected, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "runs", tmp_path / "runs")
    shutil.copytree(root / "mine", tmp_path / "mine")
    code, out, err = command("draw", "name=mine", f"root={tmp_path}")
    assert code == 0, err
    drawn = json.loads((tmp_path / "mine" / "own" / "mine.json").read_text())
    (mine,) = [study for study in shown.studies if study.name == "mine"]
    assert mine.report is not None
    for key in ("table", "remarks", "verdicts", "cells", "runs"):
        assert mine.report[key] == drawn[key]
    for row in drawn["table"]["rows"]:
        assert re.search(r"\s+".join(re.escape(cell) for cell in row if cell), out), row


def test_every_result_that_came_with_samgap_is_there(shown: collected.Collected) -> None:
    folders = {path.parent for path in collected.REFERENCE.glob("*/*/*.json")}
    assert {study.folder for study in shown.studies if not study.own} == folders
    assert [*shown.figures()][:5] == ["fig1", "fig2", "fig3", "fig4", "fig6"]
    page = (shown.studies[0].folder.parents[1] / "report" / "index.html").read_text()
    assert len(re.findall(r"By the rules of commit [0-9a-f]{7}, 20", page)) == sum(
        bool(s.report) for s in shown.studies
    )
    assert re.search(r"Holm: p = 0\.\d", page)
    for study in shown.studies:
        assert study.about.get("claim") if not study.own else not study.about
        assert study.charts or study.problem
    assert {"samgap.optim.sam:SAM", "pytorch_optimizer:SAM"} <= {*shown.conformance}
    assert {"mlp", "resnet18", "sweeps", "scheduling"} <= {*shown.bench}
    assert len(shown.theory.rows) > 10
    assert not shown.evidence.own
    assert "ways of asking say that the gap grows" in page
    for title in shown.evidence.tables.text_tables():
        assert f"<caption>{title}</caption>" in page


@browsed
def test_a_switch_shows_what_is_of_this_root_or_came_with_samgap(driver: webdriver.Chrome) -> None:
    rows = {name: driver.find_elements(By.CSS_SELECTOR, f"#overview tr.{name}") for name in ("mine", "theirs")}
    for chosen, visible in (("mine", (True, False)), ("theirs", (False, True)), ("all", (True, True))):
        driver.find_element(By.ID, chosen).send_keys(Keys.SPACE)
        assert tuple(all(row.is_displayed() is shown for row in rows[name]) for name, shown in
                     zip(rows, visible, strict=True)) == (True, True)  # fmt: skip
        assert all(rows.values())


def test_the_answer_is_of_the_study_of_each_figure_that_says_most(shown: collected.Collected, root: Path) -> None:
    answers = shown.answers()
    assert len({study.name for study in answers}) == len(answers)
    assert not [study for study in answers if study.scale == "smoke"]
    named = {study.name: study for study in answers}
    assert named["mine"].own
    assert (named["fig7"].scale, named["fig7"].own) != ("cpu", False)  # there is a study at the published settings
    page = (root / "report" / "index.html").read_text()
    assert page.index('id="answer"') < page.index('id="overview"') < page.index('id="figures"')
    for verdict in {verdict["answer"] for study in answers for verdict in study.report["verdicts"]}:  # type: ignore[index]
        assert f'title="{MEANINGS[verdict]}"' in page.replace("&#39;", "'")


def test_p_values_are_corrected_for_the_distinct_questions_of_the_page() -> None:
    assert holm([0.01, 0.04, 0.02]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([0.5, 0.6]) == [1.0, 1.0]

    def study(name: str, *verdicts: dict[str, object], scale: str = "cpu") -> collected.StudyEntry:
        report = {"verdicts": [{"series": name, "reason": name} | verdict for verdict in verdicts]}
        return collected.StudyEntry(name, scale, False, Path(), name, {}, report)

    same, other = {"p_up": 0.01, "slope": 2.0}, {"p_up": 0.04, "slope": 1.0}
    studies = [
        study("a", same), study("b", same, other), study("c", {"p": 0.02, "claim": "flatter"}, {"linear_p": 0.001}),
        study("d", {"p_up": 0.001, "slope": 1.0}, scale="smoke"), study("e", {"p_up": None}),
    ]  # fmt: skip
    nothing = collected.Rows([], "", False)
    found, questions = collected.Collected(studies, None, nothing, {}, {}, None).corrected()
    assert questions == 3
    places = {("a-cpu-reference", 0): 0.03, ("b-cpu-reference", 0): 0.03, ("b-cpu-reference", 1): 0.04}
    assert found == pytest.approx(places | {("c-cpu-reference", 0): 0.04})


def test_what_a_card_gave_is_on_the_page(shown: collected.Collected, root: Path, tmp_path: Path) -> None:
    page = (root / "report" / "index.html").read_text()
    assert "Made-up Card (memory 1 GiB, cuda 13.0), 2026-01-02, commit 0123456." in page
    assert re.search(r"masks &lt;b&gt;</th><td><span class=\"verdict fails\">✗ fails</span></td><td>all 0</td>", page)
    row = r"SAM step, mlp 0.1</th><td>32-true</td><td>2.000</td><td>64,000</td>\s*<td>0.001 TFLOP</td><td>50.0 %</td>"
    assert re.search(row, page)
    assert "jax, failed: JAX is ill." in page
    assert shown.card is not None
    assert (len(shown.card.checks), len(shown.card.speeds), shown.card.own) == (2, len(made.STEPS), True)
    if not [*collected.card.SHIPPED.glob("check-gpu*.json")]:
        assert collect(tmp_path).card is None


def test_lines_can_be_distinguished_without_color(shown: collected.Collected) -> None:
    groups = [*(study.charts for study in shown.studies), *shown.evidence.tables.charts().values()]
    charts = [chart for charts in groups for chart in charts if isinstance(chart, Chart)]
    for chart in charts:
        looks = [(line.look.marker, line.dash, line.filled) for line in chart.lines if line.look.marker]
        assert len(looks) == len({*looks}), chart.name
    assert max(len(chart.lines) for chart in charts) > 8


def test_a_fresh_checkout_has_a_page(command: Command, tmp_path: Path) -> None:
    code, out, err = command("report.__main__", f"root={tmp_path}")
    assert code == 0, err
    assert "0 sweeps" in out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "http://" not in re.sub(r"http://www\.w3\.org/[\w/]+", "", page.split("<script>")[0])
    assert page.count("<article") == len([*collected.REFERENCE.glob("*/*/*.json")])


@pytest.mark.parametrize("text", ["", "[]", '{"rows": '])
def test_a_damaged_table_is_one_sentence(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "conformance").mkdir()
    (tmp_path / "conformance" / "theirs.json").write_text(text)
    code, _, err = command("report.__main__", f"root={tmp_path}")
    assert code == 1
    assert "conformance/theirs.json is damaged" in err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("file", ["theory/theory.json", "bench/bench.json", "conformance/a.json"])
def test_a_table_of_another_version_is_one_sentence(command: Command, tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text('{"mlp": {}}')
    code, _, err = command("report.__main__", f"root={tmp_path}")
    assert (code, f"below {tmp_path} is of another version of samgap" in err) == (1, True)
    assert not (tmp_path / "report").exists()


def test_own_suites_stand_in_place_of_those_that_came(tmp_path: Path, shown: collected.Collected) -> None:
    theory = json.loads((collected.REFERENCE / "theory" / "theory.json").read_text())
    theory["rows"] = theory["rows"][:2]
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "theory.json").write_text(json.dumps(theory))
    found = collect(tmp_path).theory
    assert found.own
    assert len(found.rows) == 2
    assert not shown.theory.own
