"""CSV from the pages: no text of a record runs as a formula."""

import csv
import io

import numpy as np

from actiontrack.analysis import verdicts
from actiontrack.analysis.verdicts import Verdict
from actiontrack.recorder import Recorder

NOTE = "=HYPERLINK(1)"


def test_notes_and_ids_run_in_no_spreadsheet(new_run, store, spool, make_client):
    run_id = new_run()
    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        recorder.update(["=1+1", "b"], np.array([-1.5, 2.0]))
        recorder.end_epoch()
    record = store.open_record(run_id)
    verdicts.add(record, [Verdict(sample_id="=1+1", verdict="fine", who="@me", note=NOTE)])
    client = make_client(store)

    def table(name):
        answer = client.get(f"/actiontrack/api/{name}?run={run_id}&format=csv")
        assert answer.status_code == 200
        text = io.StringIO(answer.get_data(as_text=True), newline="")
        return list(csv.DictReader(text))

    (row,) = table("verdicts")
    assert [row["sample_id"], row["who"], row["note"]] == ["'=1+1", "'@me", f"'{NOTE}"]
    rows = {row["sample_id"]: float(row["action"]) for row in table("scores")}
    assert rows == {"'=1+1": -1.5, "b": 2.0}
    body = client.get(f"/actiontrack/api/verdicts?run={run_id}").get_json()
    assert body["rows"][0][body["columns"].index("note")] == NOTE  # for programs: as it is
