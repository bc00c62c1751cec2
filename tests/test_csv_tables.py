"""Every CSV file for people holds a record's texts so that none of them runs as a formula."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from actiontrack import analysis
from actiontrack.analysis import verdicts
from actiontrack.analysis.verdicts import Verdict
from actiontrack.record.escaping import read_csv
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports
from actiontrack.reporting.document import Report, Section

IDS = ["=1+1", "@sum", "-a", "+b", "safe"]
CLASSES = ("=cmd", "plain")
FORMULAS = {"=", "+", "-", "@", "\t", "\r"}


@pytest.fixture
def record(new_run, store, spool):
    run_id = new_run()
    with Recorder(run_id=run_id, store=store, spool=spool, class_names=CLASSES) as recorder:
        recorder.update(IDS, np.arange(5) - 1.5, labels=np.array([0, 1, 0, 1, 0]))
        recorder.end_epoch()
    opened = store.open_record(run_id)
    verdicts.add(opened, [Verdict(sample_id="-a", verdict="fine", who="@me", note="=1+1")])
    return opened


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def check(text, n_rows):
    """No cell runs, numbers are numbers, and our reader finds the ids as they were."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == n_rows + 1
    for row in rows:
        for cell in row:
            assert cell[:1] not in FORMULAS or is_number(cell), cell
    ids = read_csv(io.StringIO(text), dtype=str, keep_default_na=False)["sample_id"]
    assert set(ids) <= set(IDS)
    assert "'" not in "".join(ids)
    return rows


def test_tables_that_are_saved(record, tmp_path):
    paths = analysis.save_frame(analysis.score_frame([record]), tmp_path / "scores")
    rows = check(paths[1].read_text(), 5)
    assert any("'=cmd" in row for row in rows)
    action = pd.read_csv(paths[1])["action"]
    assert (action < 0).any()
    assert action.dtype == np.float64
    assert pd.read_parquet(paths[0])["sample_id"].tolist() == sorted(IDS)  # for programs: as it is


@pytest.mark.parametrize(
    ("kind", "name", "n_rows"),
    [
        ("datalab", "datalab_issues.csv", 5),
        ("subset", "samples.csv", 5),
        ("curriculum", "curriculum.csv", 4),
    ],
)
def test_tables_of_exports(record, tmp_path, kind, name, n_rows):
    options = {"favour": "clean", "chunks": 2}
    exports.EXPORTS[kind](record, tmp_path, exports.Suspects(top=1), options)
    check((tmp_path / name).read_text(), n_rows)


def test_tables_of_the_command_line(record, run_cli, tmp_path):
    for command in (["scores"], ["verdicts"]):
        arguments = [*command, "--run", record.run.run_id, "--format", "csv"]
        code, out, _ = run_cli(*arguments)
        assert code == 0
        check(out, 5 if command == ["scores"] else 1)
        run_cli(*arguments, "--output", str(tmp_path / "table.csv"))
        assert (tmp_path / "table.csv").read_text() == out


def test_tables_of_reports(record, tmp_path):
    frame = analysis.score_frame([record])
    report = Report(title="t", sections=[Section(heading="h", frame=frame)])
    paths = report.save(tmp_path)
    check(paths["tables/01-h.csv"].read_text(), 5)


def test_hashes_of_ids_that_hold_other_line_separators(run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", "a" * 32)
    (tmp_path / "ids").write_text("a\u2028b\n=1+1\nc\x0bd\n", encoding="utf-8")
    code, out, _ = run_cli("hash-ids", str(tmp_path / "ids"), "--format", "csv")
    assert code == 0
    rows = list(csv.reader(io.StringIO(out, newline="")))[1:]
    assert [row[0] for row in rows] == ["a\u2028b", "'=1+1", "c\x0bd"]
