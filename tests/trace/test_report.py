"""The report is whole without network or scripts, tells the truth, and takes nothing as markup."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from tests.trace.synthetic import Recipe, records, to_line, write_trace
from toolkit.errors import ToolkitError
from toolkit.trace.analysis import Analysis, read_analysis
from toolkit.trace.narrative import headline, paragraphs
from toolkit.trace.report import render_report, write_report
from toolkit.trace.summary import print_summary

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&[red]x[/red]"
VOID = {"meta", "img", "br", "input", "link", "hr"}
SMALL = Recipe(steps=12, layers=3, phone=True)


class Page(HTMLParser):
    """Collects what a browser would act on, and checks that tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            assert tag == "path", f"</{tag}> closes {self.open[-3:]}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def analyze(tmp_path: Path, recipe: Recipe = SMALL) -> Analysis:
    return read_analysis(write_trace(tmp_path / "trace.jsonl", recipe))


def hostile_trace(tmp_path: Path, text: str) -> Path:
    """A trace with `text` wherever a device can put one."""
    path = tmp_path / "trace.jsonl"
    with path.open("wb") as file:
        for record in records(replace(SMALL, steps=30)):
            if record["type"] == "run":
                record["model"] = record["lowering"] = record["toolkit"] = text
                record["settings"] |= {text: text, "nested": {text: [text]}}
                for key in ("abi", "isa", "kernel", "model"):
                    record["device"][key] = text
            if record["type"] == "event":
                record["event"] = record["detail"] = text
            if record["type"] == "phase":
                record["operators"] = {text: {"calls": 1, "ns": 1000}}
            if record["type"] == "smaps":
                record["phase"] = text
                for entry in record["entries"]:
                    entry["name"] = text
            if record["type"] == "end":
                record |= {"status": "failed", "error": text}
            file.write(to_line(record))
        file.write(json.dumps({"type": text}).encode() + b"\n")
    return path


def test_report_is_well_formed_and_opens_with_the_answer(tmp_path: Path) -> None:
    analysis = analyze(tmp_path)
    page = Page(render_report(analysis))
    plain = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert headline(analysis) in plain
    for text in paragraphs(analysis):
        assert text in plain
    for part in analysis.peak.parts:
        assert part.label in plain
    for operator in analysis.timing.operators:
        assert operator.operator in plain
    for word in ("optimizer", "adamw", "Pixel 8", "MeSP, arXiv 2602.13069", "Qwen2.5-0.5B"):
        assert word in plain
    assert plain.index("Peak") < plain.index("Written to flash") < plain.index("Memory over")


def test_report_needs_nothing_from_outside(tmp_path: Path) -> None:
    html = render_report(analyze(tmp_path))
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), (tag, attributes)
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(", html)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline'; script-src 'sha256-" in policy


@pytest.mark.parametrize("text", [HOSTILE, "{{ 7 * 7 }}{% x %}", "]]>--><!--", "\u2028\x1b[31m"])
def test_hostile_texts_stay_texts(tmp_path: Path, text: str) -> None:
    benign = Page(render_report(read_analysis(hostile_trace(tmp_path, "benign"))))
    html = render_report(read_analysis(hostile_trace(tmp_path, text)))
    page = Page(html)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in benign.tags]
    assert [set(attributes) for _, attributes in page.tags] == [set(a) for _, a in benign.tags]
    assert "\x1b" not in html
    if text.isprintable():
        assert page.text.count(text) >= 10


def test_hostile_texts_in_the_terminal(tmp_path: Path) -> None:
    analysis = read_analysis(hostile_trace(tmp_path, HOSTILE + "\x1b[31m\x07"))
    console = Console(width=2000, force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_summary(console, analysis)
    output = capture.get()
    assert "\x1b[31m" not in output and "\x07" not in output
    assert HOSTILE in output


def test_data_for_the_script_cannot_end_it(tmp_path: Path) -> None:
    page = Page(render_report(read_analysis(hostile_trace(tmp_path, HOSTILE))))
    data = json.loads(page.scripts[0])
    assert {"memory", "peak-step", "layer-time", "loss"} <= set(data)
    assert "<" not in page.scripts[0]
    for chart in data.values():
        assert len(chart["x"]) == len(chart["label"])
        assert all(len(s["values"]) == len(chart["x"]) for s in chart["series"])
        assert chart["x"] == sorted(chart["x"])


def test_peak_is_in_the_chart_however_long_the_run(tmp_path: Path) -> None:
    run = list(records(Recipe(steps=700, layers=4)))
    phase = next(r for r in run if r["type"] == "phase" and (r["step"], r["layer"]) == (333, 2))
    phase["mem"]["hwm"] = 123_456
    (tmp_path / "trace.jsonl").write_bytes(b"".join(to_line(r) for r in run))
    analysis = read_analysis(tmp_path)
    data = json.loads(Page(render_report(analysis)).scripts[0])
    for key in ("memory", "peak-step"):
        assert max(data[key]["series"][0]["values"]) == pytest.approx(123_456 * 1024, rel=1e-5)
    assert len(data["memory"]["x"]) <= 480


@pytest.mark.parametrize(
    ("recipe", "expected", "missing"),
    [
        (replace(SMALL, detail="steps"), ["The trace holds no phases"], ["By phase"]),
        (replace(SMALL, hwm_reset=False), ["running maximum (VmHWM)"], ["lowest"]),
        (replace(SMALL, status=None), ["without an end record", "unfinished"], ["completed"]),
        (replace(SMALL, steps=1), ["at step 1."], ["The loss fell", "Learning rate by step"]),
        (replace(SMALL, layers=1), ["1 layer as a table"], ["layers as a table"]),
        (
            replace(SMALL, model="", lowering="", steps=2),
            ["completed"],
            ["SmolLM2-135M-Instruct ·"],
        ),
        (
            replace(SMALL, lowering="approx-bp"),
            ["approx-bp (approximate gradients)", "approx-bp gives approximate gradients"],
            [],
        ),
        (replace(SMALL, lowering="ms-bp"), ["ms-bp"], ["approximate"]),
        (Recipe(steps=600, layers=2), ["Each column at its", "lowest"], ["Battery"]),
        (replace(SMALL, phone=True), ["Temperature", "Battery"], []),
    ],
)
def test_every_kind_of_run_has_its_report(
    tmp_path: Path, recipe: Recipe, expected: list[str], missing: list[str]
) -> None:
    analysis = analyze(tmp_path, recipe)
    plain = Page(render_report(analysis)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert headline(analysis) in plain
    assert [text for text in expected if text not in plain] == []
    assert [text for text in missing if text in plain] == []


def test_the_loss_stands_early_and_says_what_it_compares(tmp_path: Path) -> None:
    analysis = analyze(tmp_path, Recipe(steps=50, layers=2))
    html = render_report(analysis)
    plain = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    losses = analysis.trace.steps["loss"]
    first, last = (f"{part.mean():.4g}" for part in (losses[:5], losses[-5:]))
    sentence = f"from {first} to {last} over steps 1 to 50 (means of the first and the last 5)"
    assert sentence in plain and f"from {first}, means of 5 steps" in plain
    # The chart has the two means of the sentence, beside the loss of each step.
    chart = html[html.index('data-chart="loss"') : html.index("</figure>")]
    assert f"<b>{first}</b>" in chart and f"<b>{last}</b>" in chart
    assert html.index('id="training"') < html.index('id="memory"') < html.index('id="time"')
    short = analyze(tmp_path, Recipe(steps=4, layers=2))
    assert "means of" not in Page(render_report(short)).text


def test_the_lowest_line_is_seen_on_every_color(tmp_path: Path) -> None:
    """In dark mode it is light: a halo of the paper's color parts it from what it crosses."""
    html = render_report(analyze(tmp_path, Recipe(steps=600, layers=2)))
    chart = html[html.index('data-chart="memory"') :].partition("</figure>")[0]
    halo, line = chart.index('class="halo"'), chart.index('class="line"')
    assert halo < line and 'stroke="var(--paper)"' in chart and 'stroke="var(--ink)"' in chart
    assert "dark line" not in html
    assert re.search(r"path\.halo \{ stroke-width: 4", html)


def test_words_are_explained_and_narrow_tables_keep_their_columns(tmp_path: Path) -> None:
    html = render_report(analyze(tmp_path))
    for word in ("Ledger", "VmHWM", "Anonymous", "Arena", "Checkpoints"):
        assert f"<dt>{word}</dt>" in html
    tables = re.findall(r'<table class="data (?:wrap )?cards[^>]*>(.*?)</table>', html, re.DOTALL)
    assert len(tables) == 3  # by phase, by operator, published figures
    for table in tables:
        cells = re.findall(r"<td([^>]*)>(.*?)</td>", table)
        assert cells and all("data-label=" in attributes for attributes, text in cells if text)
    assert ".cards td::before { content: attr(data-label)" in html


def test_report_of_a_run_that_never_began(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(to_line(next(iter(records(SMALL)))))
    page = Page(render_report(read_analysis(path)))
    assert "This trace holds no memory figures." in page.text


def test_left_out_lines_are_in_the_report(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "trace.jsonl", SMALL)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"<b>?</b>\n", *lines[6:], b'{"type":"ste']))
    page = Page(render_report(read_analysis(path)))
    assert "Left out: 1 line that cannot be read" in page.text
    assert "1 line of" in page.text


def test_report_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    analysis = analyze(tmp_path)
    path = write_report(analysis, tmp_path / "report.html")
    before = path.read_text()
    monkeypatch.setattr("toolkit.trace.report.render_report", lambda _: "\ud800")
    with pytest.raises(UnicodeEncodeError):
        write_report(analysis, path)
    assert path.read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "trace.jsonl"]


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="cannot write the report"):
        write_report(analyze(tmp_path), tmp_path / "missing" / "report.html")
