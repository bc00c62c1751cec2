"""Targets beside a stored record: verdicts, difficulties, commands, filters and requests."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
from fuzz_contract import BrokenContractError, spelt_words, words_of

from actiontrack.testing import make_history, record_history


class _Stored:
    """Runs with records in a real SQLite store, which all targets of a folder share."""

    store_is_shared = True

    def __init__(self, folder):
        import mlflow

        from actiontrack.store import Store

        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        mlflow.set_tracking_uri(self.uri)
        client = mlflow.MlflowClient(self.uri)
        if found := client.get_experiment_by_name("fuzz"):  # another target has made it
            runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time"])
            self.store, self.run_ids = Store(self.uri), [each.info.run_id for each in runs]
            self.record = self.store.open_record(self.run_ids[0])
            return
        experiment = client.create_experiment("fuzz", (folder / "artifacts").as_uri())
        self.store, self.run_ids = Store(self.uri), []
        for seed in (0, 1):
            run_id = client.create_run(experiment, run_name=f"run {seed}").info.run_id
            client.log_param(run_id, "dataset", "digits")
            history = make_history(n_steps=4, n_samples=12, seed=0)
            losses = history.losses + np.float32(seed) * np.arange(12, dtype=np.float32)
            history = replace(history, losses=losses)
            record_history(history, run_id, self.store, folder / "spool", model="cnn")
            client.set_terminated(run_id)
            self.run_ids.append(run_id)
        self.record = self.store.open_record(self.run_ids[0])


class VerdictLines(_Stored):
    """A file of verdicts beside a record."""

    share = 15

    def __init__(self, folder):
        from actiontrack.analysis import verdicts

        super().__init__(folder)
        self._verdicts = verdicts
        given = [
            verdicts.Verdict(sample_id=3, verdict="wrong_label", who="ada", new_label=1, note="é"),
            verdicts.Verdict(sample_id=4, verdict="fine", who="bob"),
        ]
        verdicts.add(self.record, given)
        (name,) = verdicts.list_files(self.record)
        self._path = self.record.fetch(name)
        self._text = self._path.read_bytes()

    def seeds(self):
        line = self._text.splitlines()[0]
        return [self._text, line, line.replace(b"null", b"0"), line.replace(b"3", b"1e5")]

    def run(self, data):
        self._path.write_bytes(data)
        self._verdicts.current(self._verdicts.read(self.record))


class VerdictFiles(_Stored):
    """Verdicts from other tools: the first byte chooses CSV, Label Studio or CVAT."""

    share = 100
    _endings = (".csv", ".json", ".xml")

    def __init__(self, folder):
        from actiontrack.analysis.verdict_files import read_verdict_file

        super().__init__(folder)
        self._read = read_verdict_file

    def seeds(self):
        told = {"run_id": self.run_ids[0], "record": "test-probe", "sample_id": "3"}
        result = [
            {"from_name": "verdict", "value": {"choices": ["wrong_label"]}},
            {"from_name": "label", "value": {"choices": ["class 1"]}},
            {"from_name": "note", "value": {"text": ["é"]}},
        ]
        said = {
            "result": result,
            "completed_by": {"email": "a@b"},
            "updated_at": "2026-01-31T12:00Z",
        }
        tasks = json.dumps([{"data": told, "annotations": [said]}])
        xml = (
            "<annotations><meta><task><name>actiontrack test-probe "
            f"{self.run_ids[0]}</name></task></meta><image name='000001-3.png'>"
            "<tag label='wrong_label'><attribute name='sample_id'>3</attribute></tag>"
            "<tag label='class 1'/></image></annotations>"
        )
        csv = "sample_id,verdict,new_class,note,who,when\n3,wrong_label,class 1,é,ada,2026-01-31\n"
        return [bytes([place]) + text.encode() for place, text in enumerate((csv, tasks, xml))]

    def run(self, data):
        ending = self._endings[data[0] % 3] if data else ".csv"
        path = self.folder / f"verdicts{ending}"
        path.write_bytes(data[1:])
        self._read(self.record, path, who="fuzz")


class DifficultyFiles(_Stored):
    """Difficulties from outside: the first byte chooses CSV or Parquet."""

    share = 30
    _endings = (".csv", ".parquet")

    def __init__(self, folder):
        from actiontrack import analysis

        super().__init__(folder)
        self._analysis = analysis

    def seeds(self):
        import pandas as pd

        frame = pd.DataFrame({"id": [str(row) for row in range(12)], "value": np.arange(12) / 8})
        stream = io.BytesIO()
        frame.to_parquet(stream)
        texts = (frame.to_csv(index=False), "sample_id;a;b\n3;;1e5\n'=4;nan;2\n5;inf;3\n")
        return [*(b"\0" + text.encode() for text in texts), b"\1" + stream.getvalue()]

    def run(self, data):
        path = self.folder / f"difficulty{self._endings[data[0] % 2] if data else '.csv'}"
        path.write_bytes(data[1:])
        outside = self._analysis.read_difficulties(path)
        self._analysis.agreement_with([self.record], outside, n_bootstrap=2)


class CommandLine(_Stored):
    """`actiontrack` with any words after it."""

    share = 2

    def __init__(self, folder):
        from actiontrack.cli import cli, main

        super().__init__(folder)
        self._main = main
        options = {
            each
            for command in cli.commands.values()
            for option in command.params
            for each in option.opts
            if each.startswith("-")
        }
        values = (
            "0", "1", "-1", "3", "1e9", "999999999999999999999", "nan", "action", "final_loss",
            "class 1", "table", "csv", "json", "parquet", "error", "inner", "spearman",
            "test-probe",
            "fuzz", "experiment:fuzz", "filter:", "params.dataset = 'digits'", "out", "", "--",
            self.run_ids[0], self.run_ids[1], self.run_ids[0][:8], self.uri, "sqlite:///absent.db",
            "http://127.0.0.1:9", "--help", "easiest", "labels", "datalab", "cvat", "label-studio",
            "fiftyone", "subset", "curriculum", "folder",
        )  # fmt: skip
        self.tokens = (*cli.commands, *sorted(options), *values)

    def seeds(self):
        run, experiment = ["--run", self.run_ids[0]], ["--experiment", "fuzz"]
        lines = [
            ["runs"], ["scores", *run], ["classes", *run], ["compare", *experiment],
            ["agreement", *run, "--with", "out", "--high-is-easy"],
            ["curves", *run], ["stability", *experiment], ["noise", *run], ["accuracy",
            *experiment],
            ["verdicts", *run], ["maps", *run], ["neighbours", *run], ["export", *run, "--output",
            "out"],
            ["changed", "--before", self.run_ids[0], "--after", self.run_ids[1]], ["doctor"],
            ["sync"],
            ["completion", "bash"], ["scores", *run, "--format", "json", "--up-to", "3"],
            ["compare", *experiment, "--tidy", "--bootstrap", "3", "--method", "pearson"],
            ["runs", "--filter", "params.dataset = 'digits'"], ["runs", "--filter", "params.x >"],
            ["curves", *run, "--clusters", "3"], ["scores", "--sample", "3"],
        ]  # fmt: skip
        return [spelt_words(each, self.tokens) for each in lines]

    def run(self, data):
        words = words_of(data, self.tokens)
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        code = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                self._main(words)
        except SystemExit as ended:
            code = ended.code or 0
        err.flush()
        said = err.buffer.getvalue().decode() if not err.closed else ""
        if code not in {*range(11), 130} or "Traceback" in said or (code and not said.strip()):
            raise BrokenContractError(f"{words}: exit code {code}: {said[-2000:]}")


class Filters(_Stored):
    """Queries for runs: MLflow's filters, ids of runs, names of experiments and records."""

    share = 4
    tokens = (
        "params.", "tags.", "metrics.", "attributes.", "dataset", "status", "run_id", "start_time",
        " = ", " != ", " LIKE ", " ILIKE ", " IN ", " > ", "'", '"', "`", "(", ")", ",", " AND ",
        " OR ",
        "digits", "FINISHED", "1", "-1", "1e5", "%", "\\", ";", "--", "actiontrack.format", "x",
        " ",
        ".", "é",
    )  # fmt: skip

    def seeds(self):
        lines = (
            ("params.", "dataset", " = ", "'", "digits", "'"),
            ("attributes.", "status", " IN ", "(", "'", "FINISHED", "'", ")"),
            ("tags.", "`", "actiontrack.format", "`", " LIKE ", "'", "%", "'"),
            ("metrics.", "x", " > ", "1", " AND ", "attributes.", "start_time", " > ", "-1"),
        )
        return [b"\0" + spelt_words(each, self.tokens) for each in lines]

    def run(self, data):
        from actiontrack.store import RunQuery

        text = "".join(words_of(data[1:], self.tokens))
        kind = data[0] % 5 if data else 0
        query = {
            0: {"filter_string": text},
            1: {"run_ids": (text,)},
            2: {"experiments": (text,)},
            3: {"record": text, "run_ids": (self.run_ids[0],)},
            4: {"record": text, "filter_string": text},
        }[kind]
        for run in self.store.find_runs(RunQuery(**query)):
            self.store.open_record(run, query.get("record"))


class WebQuery(_Stored):
    """Addresses of the API."""

    share = 4

    def __init__(self, folder):
        import flask

        from actiontrack.web.api.endpoints import ENDPOINTS
        from actiontrack.web.app import install
        from actiontrack.web.parameters import fields_of
        from actiontrack.web.permissions import Everybody

        super().__init__(folder)
        app = flask.Flask("fuzz")
        install(app, Everybody(), store=self.store, key=b"key")
        self._client = app.test_client()
        self._endpoints = [each for each in ENDPOINTS if each.method == "GET"]
        names = sorted({name for each in self._endpoints for name in fields_of(each.parameters)})
        values = (
            "0", "1", "-1", "3", "1e400", "nan", "action", "loss", "margin", "hardest", "easiest",
            "error",
            "inner", "json", "csv", "parquet", "class", "all", "wrong", "test-probe", "class 1",
            "true",
            "", "%00", *self.run_ids,
        )  # fmt: skip
        self.tokens = (*names, *values)

    def seeds(self):
        run, other = self.run_ids
        return [
            bytes([place]) + spelt_words(["run", run, "run", other, "id", "3"], self.tokens)
            for place in range(len(self._endpoints))
        ]

    def run(self, data):
        endpoint = self._endpoints[data[0] % len(self._endpoints)] if data else self._endpoints[0]
        words = words_of(data[1:], self.tokens)
        pairs = list(zip(words[::2], words[1::2], strict=False))
        answer = self._client.get(f"/actiontrack/api/{endpoint.path}", query_string=pairs)
        body = answer.get_data()
        if answer.status_code >= 500:
            raise BrokenContractError(f"{endpoint.path} {pairs}: {body[:500]!r}")
        if answer.status_code >= 400 and not json.loads(body)["error"]["message"]:
            raise BrokenContractError(f"{endpoint.path} {pairs}: no message")
