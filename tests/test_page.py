"""The report: what it says is what the records say, and a person can read and work it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import roofline.device
from reports import page_measure
from reports.page import page_of
from reports.page_html import html
from reports.page_markdown import markdown
from reports.records import RecordError
from roofline.processor import describe
from tests import page_records as kinds
from tests.browser import Browser, browser_path
from tests.small_mse import ROOFS, recis, shrink

ROOT = Path(__file__).parent.parent
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Tree(HTMLParser):
    """Elements with attributes and text, in order; refuses what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._texts: list[list[str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        text: list[str] = []
        self.found.append((tag, dict(attrs), text))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
            self._texts.append(text)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, (tag, self.open[-3:])
        self.open.pop()
        self._texts.pop()

    def handle_data(self, data):
        for text in self._texts:
            text.append(data)

    def all(self, tag: str, kind: str = "") -> list[tuple[dict[str, str | None], str]]:
        return [(a, "".join(t)) for name, a, t in self.found
                if name == tag and kind in (a.get("class") or "")]  # fmt: skip

    def table(self, key: str) -> list[list[str]]:
        """The texts of a table's body."""
        start = next(k for k, (n, a, _) in enumerate(self.found)
                     if n == "table" and a.get("id") == key)  # fmt: skip
        rows: list[list[str]] = []
        for name, _, text in self.found[start + 1 :]:
            if name == "table":
                break
            if name == "tr":
                rows.append([])
            elif name in ("td", "th"):
                rows[-1].append("".join(text))
        return rows[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return kinds.write(tmp_path_factory.mktemp("records") / "r.jsonl", kinds.every()).parent


@pytest.fixture(scope="module")
def text(folder):
    return html(page_of([folder]))


@pytest.fixture(scope="module")
def tree(text):
    return Tree(text)


def test_nothing_comes_from_elsewhere(text, tree):
    assert not re.search(r"https?://", text)
    assert "url(" not in text
    assert "@import" not in text
    for tag, attributes, _ in tree.found:
        assert tag not in ("link", "img", "iframe", "object", "embed"), tag
        assert "src" not in attributes
        if tag == "a":
            assert (attributes.get("href") or "").startswith("#"), attributes
    policy = [a["content"] for a, _ in tree.all("meta") if a.get("http-equiv")]
    assert len(policy) == 1
    assert (policy[0] or "").startswith("default-src 'none'")


def test_links_lead_somewhere_and_names_are_unique(tree):
    ids = [a["id"] for _, a, _ in tree.found if a.get("id")]
    assert len(ids) == len(set(ids))
    targets = [a["href"].removeprefix("#") for a, _ in tree.all("a") if a.get("href")]
    named = [a["aria-labelledby"] for _, a, _ in tree.found if a.get("aria-labelledby")]
    assert {*targets, *named} <= set(ids)
    assert len(targets) > 5


def test_tables_can_be_sorted_and_charts_be_heard(tree):
    assert len(tree.all("table")) == len(tree.all("caption")) > 8
    heads = [a for a, _ in tree.all("th") if a.get("scope") == "col"]
    assert heads
    assert all(a["aria-sort"] == "none" for a in heads)
    assert sum(a.get("type") == "button" for a, _ in tree.all("button")) == len(heads)
    assert any("data-sort" in a for a, _ in tree.all("td"))
    pictures = tree.all("svg")
    assert len(pictures) >= 6
    assert all(a["aria-label"] for a, _ in pictures)
    marks = tree.all("g", "mark ")
    assert len(marks) > 15
    assert all(a["aria-label"] and a["tabindex"] == "0" and a["role"] == "img" for a, _ in marks)


def test_every_figure_says_how_to_measure_it_again(text, tree):
    figures = re.findall(r"<figure id=\"([^\"]*)\">(.*?)</figure>", text, re.S)
    assert len(figures) >= 6
    assert [key for key, inner in figures if "Reproduce it" not in inner] == []
    assert "recis compare mse --backend numba,torch" in text


def test_numbers_are_the_records_and_what_has_none_says_why(tree):
    [name] = {k for a, _ in tree.all("table") if (k := a["id"] or "").endswith("-cores-table")}
    rows = {(r[0], r[1], r[2]): r for r in tree.table(name)}
    newest = rows["ids_mod", "n=1 skew=0.0", "numba"]
    assert newest[3:] == ["100 µs", "2 %", "10", "20", "30", "50 %", "0.5", "50 %", "memory",
                          "–", "ok"]  # fmt: skip
    wrong = rows["rows_gather", "n=2", "numba"]
    assert wrong[3:13] == ["–"] * 10
    assert wrong[13] == "wrong: out: far <off>"
    assert rows["rows_gather", "n=2", "torch"][13] == "skipped: not enough memory"
    assert ("rows_gather", "<b>&", "numba (composed)") in rows
    heated = {r[0]: r[1:] for r in tree.table(name.replace("-table", "-mbu"))}
    assert heated == {"ids_mod": ["50 %", "17 %"], "rows_gather": ["13 %‡†", "skipped"]}
    faster = {r[0]: r[1] for r in tree.table(name.replace("-table", "-against-torch"))}
    assert faster == {"ids_mod": "3.00 ×", "geometric mean over ops": "3.00 ×"}


def test_roofs_stand_beside_the_data_sheet(tree):
    roofs = {r[0]: r[1:] for r in tree.table("a-processor-2-cores-roofs")}
    assert roofs["copy (read + written)"] == ["20.0", "GB/s", "30", "67%"]
    assert roofs["matrix product, float32"] == ["100.0", "Gflop/s", "200", "50%"]
    assert roofs["random rows of 64 bytes among 1 MiB, read"][0] == "9.0"
    assert roofs["atomic additions, one"] == ["1.0", "10^9/s", "–", "–"]


def test_shares_of_other_rules_are_not_called_mbu(tree, text):
    anchors = tree.table("nvidia-h100-80gb-hbm3-anchors")
    assert (anchors[0][6], anchors[0][9:11]) == ("50 %", ["60 %", "missed"])
    published = {r[0]: r[1:] for r in tree.table("published-shares")}
    assert [published[k][:2] for k in published] == [
        ["55.1 %", "34.6 %"], ["47.5 %", "15 %"], ["58 %", "20.75 %"], ["13.75 %", "2.75 %"]
    ]  # fmt: skip
    assert published["gather"][3:] == ["no case with torch"] * 2
    assert "Not established" in text


def test_a_step_goes_from_its_bound_to_its_time(tree, text):
    key = "a-processor-2-cores-mse-tiny-on-numba"
    rows = tree.table(f"{key}-bars")
    parts = [float(r[1]) for r in rows]
    assert rows[-1][0] == "measured"
    assert sum(parts[:-1]) == pytest.approx(parts[-1])
    assert "Fix first: ops above their bounds: most of it segment_sum" in text
    assert tree.table(f"{key}-stages") == [
        ["pool", "3", "4 ms", "40.0 %", "1 ms", "10.00", "2.5", "12 %"], ["idle", *["–"] * 7]
    ]  # fmt: skip


def test_a_training_run_without_a_waterfall_gets_one(tmp_path):
    trace = {"steps": 4, "seconds": 0.01, "other": 0.004, "rows": 100, "bytes": 2e7, "mbu": 0.1,
             "ops": [{"op": "a", "backend": "b", "calls": 1, "seconds": 0.004, "bytes": 3e7,
                      "gbs": 7.5, "mbu": 0.4, "share": 0.4},
                     {"op": "c", "backend": "b", "calls": 1, "seconds": 0.002, "bytes": 1e7,
                      "gbs": 5.0, "mbu": 0.2, "share": 0.2}]}  # fmt: skip
    path = tmp_path / "result.json"
    kinds.write(path, [{"run": "runs/mse-tiny-001", "trace": trace, "roofs": kinds.ROOFS}])
    rows = Tree(html(page_of([path]))).table("a-processor-2-cores-run-mse-tiny-001-bars")
    parts = {r[0]: float(r[1]) for r in rows}
    assert parts["bound: bytes ÷ copy"] == 1.0
    assert parts["bytes between ops"] == 1.0
    assert sum(parts.values()) == pytest.approx(2 * parts["measured"])


def test_contenders_history_counters_and_strangers(tree, text):
    rows = tree.table("a-processor-2-cores-mse-small-contenders")
    assert rows[1][2] == "20.5 ms"
    assert rows[1][4] == "1.950 × numba (95%: 1.900 to 2.000)"
    assert rows[2][5] == "skipped: not installed"
    assert "The losses agreed." in text
    [again] = tree.table("a-processor-2-cores-history-table")
    assert again[3] == "2"
    assert again[8] == "0.500"
    counted = tree.table("nvidia-h100-80gb-hbm3-counters")
    assert counted[0][3:7] == ["2.00", "3.00", "1.50", "2"]
    assert "1 record of a kind this page does not show" in text
    assert tree.table("nvidia-h100-80gb-hbm3-conformance") == [["ids_mod", "wrong: 3 of 4 checks"]]


def test_markdown_has_the_same_numbers(folder):
    said = markdown(page_of([folder]))
    assert "| ids\\_mod |" in said or "| ids_mod |" in said
    assert "1.950 × numba" in said
    assert "wrong: out: far <off>" in said.replace("&lt;", "<").replace("&gt;", ">")
    for block in re.findall(r"(?:^\|.*\n)+", said, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


def test_a_half_written_line_is_left_out_and_a_broken_one_is_named(tmp_path):
    path = kinds.write(tmp_path / "r.jsonl", [kinds.op("a", "b", "torch", 1e-3)] * 2)
    path.write_text(path.read_text()[:-40])
    assert page_of([path]).count == 1
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(RecordError, match=r"r\.jsonl, line 1"):
        page_of([path])


def test_the_committed_page_is_of_the_committed_records():
    """Made again by the command that the failure names; records change, the page follows."""
    results = ROOT / "reports" / "results"
    page = page_of([results])
    again = (
        "recis report reports/results -o reports/results/report.html "
        "--markdown reports/results/report.md"
    )
    assert (results / "report.html").read_text() == html(page), again
    assert (results / "report.md").read_text() == markdown(page), again
    assert len(html(page)) < 1e6


def test_the_command_writes_the_page(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recis("report", folder, "--markdown", "r.md") == 0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "r.md").read_text().startswith("# ")
    assert recis("report", "nowhere") == 2
    assert "nowhere is no file" in capsys.readouterr().err
    assert recis("report", "--device", "cpu") == 2


def test_one_command_measures_this_machine_and_goes_on_where_it_stopped(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch)
    # Records are found again by the name of the machine that they were taken on.
    here = replace(ROOFS, device=describe().name, threads=torch.get_num_threads())
    monkeypatch.setattr(roofline.device, "measure_roofs", lambda *args, **kwargs: here)
    words = ("report", "--measure", "--device", "cpu", "--backend", "torch", "--op", "rows_norm",
             "--budget", "0.01")  # fmt: skip
    monkeypatch.setattr(page_measure, "STEPS", 2)
    whole = page_measure.runs.ops_of

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(page_measure.runs, "ops_of", stopped)
    assert recis(*words) == 1
    assert "interrupted" in capsys.readouterr().err
    assert "Where the time of a training step goes" in Path("report.html").read_text()
    [file] = (tmp_path / "runs").glob("roofline-*.jsonl")
    before = file.read_text()
    monkeypatch.setattr(page_measure.runs, "ops_of", whole)
    assert recis(*words) == 0
    done = file.read_text()
    assert done.startswith(before)
    assert "rows_norm" in done
    assert recis(*words) == 0
    assert "0 measured, 2 kept" in capsys.readouterr().err
    assert file.read_text() == done
    assert "rows_norm" in Path("report.html").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if browser_path() is None:
        pytest.skip("no Chromium on this machine")
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def shown(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text)
    return path


COLUMN = "[...document.getElementById('{}').tBodies[0].rows].map(r => r.cells[{}].textContent)"
TABLE = "a-processor-2-cores-table"


def test_headings_sort_by_mouse_and_keyboard(browser, shown):
    browser.open(shown)
    button = f"document.querySelectorAll('#{TABLE} thead button')[3]"
    browser.run(f"{button}.click()")
    slowest = browser.run(COLUMN.format(TABLE, 3))
    assert slowest == ["400 µs", "300 µs", "100 µs", "–", "–"]
    browser.run(f"{button}.focus()")
    browser.press("Enter")
    assert browser.run(COLUMN.format(TABLE, 3)) == ["100 µs", "300 µs", "400 µs", "–", "–"]
    assert browser.run(f"{button}.closest('th').ariaSort") == "ascending"
    others = f"document.querySelectorAll('#{TABLE} [aria-sort=ascending]').length"
    assert browser.run(others) == 1


def test_marks_are_walked_with_arrows_and_read_out(browser, shown):
    browser.open(shown)
    figure = "document.getElementById('a-processor-2-cores-sizes')"
    assert browser.run(f"{figure}.querySelectorAll('.mark[tabindex=\"0\"]').length") == 1
    browser.run(f"{figure}.querySelector('.mark[tabindex=\"0\"]').focus()")
    heard = {browser.run(f"{figure}.querySelector('.readout').textContent")}
    for _ in range(2):
        browser.press("ArrowRight")
        heard.add(browser.run(f"{figure}.querySelector('.readout').textContent"))
    assert len(heard) == 3
    assert all("MBU" in said for said in heard)
    ring = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"


@pytest.mark.parametrize("width", [360, 400, 1200])
def test_no_width_scrolls_the_page_sideways(browser, shown, width):
    browser.open(shown, width)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= width


# Every text's contrast with the nearest opaque background, painted so that any colour syntax works.
CONTRAST = """(() => {
  const pixel = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (c) => { pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = c; pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data]; };
  const lum = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const under = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255, 255]; };
  const low = [];
  const wanted = 'h1, h2, h3, p, a, td, th, button, summary, code, caption, figcaption, svg text';
  for (const e of document.querySelectorAll(wanted)) {
    if (!e.textContent.trim() || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const a = lum(rgb(e.matches('svg text') ? style.fill : style.color)), b = lum(under(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  return low;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, shown, dark):
    browser.open(shown, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run(CONTRAST) == []
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 3 * 64) == dark


def test_the_browser_asks_for_nothing_and_complains_of_nothing(browser, shown):
    browser.events.clear()
    browser.open(shown)
    browser.run("1")
    asked = [e["params"]["request"]["url"] for e in browser.events
             if e.get("method") == "Network.requestWillBeSent"]  # fmt: skip
    assert asked == [shown.resolve().as_uri()]
    said = [e for e in browser.events
            if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]  # fmt: skip
    assert said == []
