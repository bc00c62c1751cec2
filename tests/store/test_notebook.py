"""What objects show in a notebook: small, self-contained, and text is only text."""

import html.parser
from dataclasses import replace

import numpy as np
import pytest

from actiontrack import analysis
from actiontrack.analysis import changes
from actiontrack.store import RunInfo
from actiontrack.store.notebook import table_html
from actiontrack.testing import make_history, record_history

EVIL = "<script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = set(), "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def shown(thing):
    text = thing._repr_html_()
    assert len(text) < 50_000
    page = Page(text)
    assert page.tags <= {"div", "strong", "p", "table", "thead", "tbody", "tr", "th", "td"}
    return page.text


@pytest.fixture
def records(new_run, store, spool):
    history = make_history(3, 30, 3, class_names=(EVIL, "b", "c"))
    kept = []
    for model in (EVIL, EVIL, "b"):
        run_id = new_run(run_name=f"run {EVIL}")
        noise = np.random.default_rng(len(kept)).gamma(1, 0.1, size=history.losses.shape)
        changed = replace(history, losses=(history.losses + noise).astype(np.float32))
        record_history(changed, run_id, store, spool, model=model)
        kept.append(store.open_record(run_id))
    return kept


def test_a_record_tells_what_it_holds(records):
    text = shown(records[0])
    assert "Record test-probe" in text
    assert "30 × 3" in text
    assert records[0].run.run_id in text
    assert EVIL in text


def test_a_run_tells_its_parameters(records, store):
    assert EVIL in shown(records[0].run)
    run = RunInfo(
        run_id="r", name="n", experiment="e", status="FINISHED", records=(), model="m",
        params={EVIL: EVIL},
    )  # fmt: skip
    assert shown(run).count(EVIL) == 2
    assert store.tracking_uri in shown(store)


def test_a_comparison_shows_its_table_and_an_alignment_its_runs(records):
    comparison = analysis.compare_runs(records, n_bootstrap=0)
    text = shown(comparison)
    assert f"{EVIL} / b" in text
    value = comparison.table().loc[f"{EVIL} / b", "overall"]
    assert f"{value:.4g}" in text
    assert records[2].run.run_id in shown(analysis.align(records))


def test_changes_show_the_classes(records):
    found = changes.compare_sets(records[:2], records[2:])
    assert "2 runs before, 1 after, 30 samples." in shown(found)
    assert EVIL in shown(found)


def test_long_tables_are_cut(records):
    frame = records[0].scores()
    assert "The first 20 of 30 rows." in Page(table_html("t", frame)).text
