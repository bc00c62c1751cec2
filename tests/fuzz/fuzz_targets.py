"""What fuzzing feeds, one class per surface, and the contract that each input must keep.

The contract: what is given is read, or refused by an error of `actiontrack.errors` (or of the
command line's own usage) whose message is not empty and no traceback; nothing else is raised, and
nothing takes more than `SECONDS` or `BYTES` of memory. `run.py` looks for breaches with a
coverage-guided fuzzer, `test_properties.py` with Hypothesis, and `test_finds.py` keeps what they
found.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from actiontrack.errors import ActionTrackError
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history, write_block
from actiontrack.record.manifest import (
    Manifest,
    StepEntry,
    manifest_checksum,
    read_manifest,
    write_manifest,
)
from actiontrack.record.maps import read_map, read_map_index, write_maps
from actiontrack.record.paths import block_path, picture_path
from actiontrack.record.pictures import (
    Pictures,
    read_boxes,
    write_boxes,
    write_pictures,
    write_thumbnails,
)
from actiontrack.record.samples import Samples, read_samples, write_samples
from actiontrack.record.vectors import (
    read_features,
    read_probabilities,
    read_scores,
    write_features,
    write_probabilities,
    write_scores,
)
from actiontrack.scores import score_table
from actiontrack.testing import make_history, record_history

SECONDS = 60
BYTES = 1536 * 2**20
N = 7
MAX_MESSAGE = 10_000


class BrokenContractError(Exception):
    """An input was neither read nor refused as it should be."""


def check(target, data):
    """Feed one input; raise `BrokenContractError`, or what should not have been raised."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _alarm():
        try:
            target.run(data)
        except ActionTrackError as error:
            message = str(error)
            if not message.strip() or "Traceback" in message or len(message) > MAX_MESSAGE:
                raise BrokenContractError(f"an unclear message: {message[:500]!r}") from error
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > BYTES:
        raise BrokenContractError(f"{grown >> 20} MiB of memory for {len(data)} bytes")


@contextlib.contextmanager
def _alarm():
    def late(*_):
        raise BrokenContractError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def words_of(data, tokens):
    """Words of a command line: bytes below 128 name a token, others begin a word of their own.

    Words of their own hold no slash, so that what is written stays in the working folder.
    """
    words, own = [], None
    for byte in data[:200]:
        if byte < 128 and own is None:
            words.append(tokens[byte % len(tokens)])
        elif byte == 0xFF:
            words.append("".join(own) if own is not None else "")
            own = None
        else:
            own = [] if own is None else own
            own.append(chr(byte % 128) if byte != 0xFE else "猫")
    if own:
        words.append("".join(own))
    return [
        each.replace("/", "_").replace("~", "_") if each not in tokens else each for each in words
    ]


def spelt_words(words, tokens):
    """The bytes that `words_of` reads as these words."""
    out = bytearray()
    for each in words:
        if each in tokens:
            out.append(tokens.index(each))
        else:
            out += bytes(128 + ord(letter) for letter in each if ord(letter) < 126) + b"\xff"
    return bytes(out)


def png(array):
    """An array as PNG."""
    target = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(target, "PNG")
    return target.getvalue()


def write_record(folder):
    """A record with every kind of file that the format has; returns its manifest."""
    history = make_history(n_steps=3, n_samples=N)
    rng = np.random.default_rng(0)
    names = [f"class_{each % 3}/é{each}.png" for each in range(N)]
    samples = Samples(
        sample_ids=np.array(sorted(names)),
        labels=history.labels,
        true_labels=history.labels,
        paths=names,
        input_digests=["0" * 32] * N,
    )
    files = {"samples.parquet": write_samples(folder, samples)}
    steps = []
    for row, step in enumerate(history.steps.tolist()):
        mask = np.arange(N) == row if row == 1 else np.zeros(N, bool)
        columns = {"loss": history.losses, **history.measures, "box": history.losses + 1}
        masked = {each: np.ma.MaskedArray(grid[row], mask=mask) for each, grid in columns.items()}
        files[block_path(step)] = write_block(folder, step, masked)
        steps.append(StepEntry(step, 1.0, N - int(mask.sum())))
    scores = score_table(replace(history, sample_ids=samples.sample_ids))
    files["scores.parquet"] = write_scores(folder, scores)
    files["features.parquet"] = write_features(folder, rng.normal(size=(N, 4)))
    chances = rng.dirichlet([1, 2, 3], size=N)
    files["probabilities.parquet"] = write_probabilities(folder, chances)
    images = [png(rng.integers(0, 255, (4, 4, 3))) for _ in range(N)]
    files["thumbnails.parquet"] = write_thumbnails(folder, images)
    path = picture_path("label")
    files[path] = write_pictures(folder, "label", images)
    sides = dict.fromkeys(("left", "top", "right", "bottom", "width", "height"), 3.0)
    boxes = [
        {"sample": each, "kind": "truth", "class": "cat", "score": np.nan} for each in range(N)
    ]
    files["boxes.parquet"] = write_boxes(folder, pd.DataFrame(boxes).assign(**sides))
    maps = [rng.random((2, 3)).astype(np.float32) if each else None for each in range(N)]
    files |= write_maps(folder, maps)
    manifest = Manifest(
        split="test", mode="probe", loss_name="cross_entropy", delta_kind="epoch", n_samples=N,
        id_type="string", digests={"ids": "0" * 64, "labels": None, "inputs": None},
        class_names=history.class_names, model="cnn", measures=tuple(history.measures),
        components=("box",), source={"kind": "folder", "root": "/nowhere"},
        pixel_loss_name="focal", void="ignored", maps={"factor": 1, "dtype": "float32", "step": 3},
        steps=tuple(steps), files=files, status="complete", revision=9, writer="actiontrack 0",
    )  # fmt: skip
    write_manifest(folder, manifest)
    return manifest


def read_everything(manifest, fetch):
    """Read all that a record holds, one kind of file after the other; the first error counts."""
    read_file = {
        "samples.parquet": lambda: read_samples(manifest, fetch),
        "scores.parquet": lambda: read_scores(manifest, fetch),
        "features.parquet": lambda: read_features(manifest, fetch),
        "probabilities.parquet": lambda: read_probabilities(manifest, fetch),
        "boxes.parquet": lambda: read_boxes(manifest, fetch),
    }
    for name in manifest.files:
        if name in read_file:
            read_file[name]()
        elif name.endswith("index.parquet"):
            index = read_map_index(manifest, fetch)
            for sample in range(min(len(index), N)):
                with contextlib.suppress(ActionTrackError):
                    read_map(manifest, fetch, index, sample)
        elif name.startswith(("thumbnails", "pictures")):
            pictures = Pictures(manifest, fetch, name)
            for sample in (0, N - 1):
                pictures.read(sample)
    if manifest.steps:
        history = read_history(manifest, fetch)
        if history.losses.shape != (manifest.n_steps, manifest.n_samples):
            raise BrokenContractError(f"losses of {history.losses.shape}")
        if manifest.n_samples <= N:
            score_table(history)


class Files:
    """Parquet files of a record, each with a sha256 that fits: the first byte names the file."""

    share = 15

    def __init__(self, folder):
        self._folder = folder / "record"
        self._manifest = write_record(self._folder)
        self._names = [name for name in self._manifest.files if name.endswith(".parquet")]

    def seeds(self):
        return [
            bytes([place]) + (self._folder / name).read_bytes()
            for place, name in enumerate(self._names)
        ]

    def run(self, data):
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        content, path = data[1:], self._folder.with_name("altered.parquet")
        path.write_bytes(content)
        entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        kept = {name: entry}
        steps = tuple(each for each in self._manifest.steps if block_path(each.step) == name)
        if steps:
            kept["samples.parquet"] = self._manifest.files["samples.parquet"]
        elif name.startswith("maps"):
            kept = {
                each: self._manifest.files[each] for each in self._names if "maps" in each
            } | kept
        manifest = replace(self._manifest, files=kept, steps=steps)
        read_everything(manifest, lambda each: path if each == name else self._folder / each)


class ManifestJson:
    """A manifest: even first bytes are followed by its text, odd ones by changes to a sound one."""

    share = 100
    _pool = (
        None, True, 0, -1, 1, 2, 10**15, 2**31, 2**63, 10**40, 0.5, -1.0, 1e308, float("nan"),
        float("inf"), "", "x", "../x", "int64", "string", "complete", "maps/index.parquet",
        "é" * 5000, "\ud800", "\0", [], {}, [[]], {"a": {}}, [None], ["a", "a"], [1], {"": ""},
    )  # fmt: skip

    def __init__(self, folder):
        self._folder = folder / "record"
        write_record(self._folder)
        self._text = (self._folder / "manifest.json").read_text()
        self._path = self._folder / "manifest.json"

    def seeds(self):
        changes = [bytes([1, a, b, 0]) for a in range(0, 120, 7) for b in range(len(self._pool))]
        return [b"\0" + self._text.encode(), *changes]

    def run(self, data):
        if data[:1] and data[0] % 2:
            body = json.loads(self._text)
            for at in range(1, len(data) - 2, 3):
                self._change(
                    body,
                    data[at],
                    copy.deepcopy(self._pool[data[at + 1] % len(self._pool)]),
                    data[at + 2],
                )
            text = self._signed(body)
        else:
            text = self._resigned(data[1:])
        self._path.write_bytes(text)
        manifest = read_manifest(self._path)
        if sum(data) % 16 == 0:  # fifty times as expensive as the manifest
            read_everything(manifest, lambda each: self._folder / each)

    def _change(self, body, where, value, depth):
        """Replace, add or delete something, the deeper the greater `depth`."""
        place = body
        for _ in range(depth % 3):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys or not isinstance(place[keys[where % len(keys)]], dict | list):
                break
            place = place[keys[where % len(keys)]]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = keys[where % len(keys)]
        if depth > 250:
            del place[key]
        elif depth > 240 and isinstance(place, dict):
            place[str(value)[:200]] = place[key]
        else:
            place[key] = value

    def _signed(self, body):
        with contextlib.suppress(ValueError, TypeError):
            body["checksum"] = manifest_checksum(body)
        return json.dumps(body).encode()

    def _resigned(self, text):
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return self._signed(body) if isinstance(body, dict) else text


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
        from actiontrack.web.permissions import Everybody

        super().__init__(folder)
        app = flask.Flask("fuzz")
        install(app, Everybody(), store=self.store, key=b"key")
        self._client = app.test_client()
        self._endpoints = [each for each in ENDPOINTS if each.method == "GET"]
        names = sorted({name for each in self._endpoints for name in each.parameter_names})
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


class Parameters:
    """Command lines of the entry points of the MLflow project."""

    share = 390

    def __init__(self, _folder):
        from projects.experiments import (
            curriculum,
            curves,
            ensemble,
            label_noise,
            model_bias,
        )
        from projects.params import CompareParams, DemoParams, TrainParams, parse
        from projects.params.autoencoder import AutoencoderParams
        from projects.params.detection import DetectionParams
        from projects.params.segmentation import SegmentationParams

        self._parse = parse
        self._models = (
            TrainParams, CompareParams, DemoParams, AutoencoderParams, DetectionParams,
            SegmentationParams, curriculum.CurriculumParams, curves.CurvesParams,
            ensemble.EnsembleParams, label_noise.LabelNoiseParams, model_bias.ModelBiasParams,
        )  # fmt: skip
        names = sorted({f"--{name}" for each in self._models for name in each.model_fields})
        values = (
            "0", "1", "-1", "0.5", "1e400", "nan", "inf", "1_000", "true", "FALSE", "digits",
            "folder:",
            "voc:x", "masks:a,b", "masks:a", "test,train", "probe", "inline", "both", "epoch",
            "batch",
            "cnn3", "cnn3,resnet_v2", ",", "auto", "adam", "", "9" * 5000, "0x10", "１", "--", "=",
            "bf16", "paper", "smoke",
        )  # fmt: skip
        self.tokens = (*names, *values)

    def seeds(self):
        lines = (
            ["--epochs", "1"], ["--record", "test,train", "--mode", "both"], ["--seed", "-1"],
            ["--dataset", "folder:"], ["--learning_rate", "nan"], ["--help"],
        )  # fmt: skip
        return [
            bytes([place]) + spelt_words(each, self.tokens)
            for place in range(len(self._models))
            for each in lines
        ]

    def run(self, data):
        model = self._models[data[0] % len(self._models)] if data else self._models[0]
        words = words_of(data[1:], self.tokens)
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                self._parse(model, words)
            except SystemExit as ended:
                if ended.code != 0 or not {"--help", "-h"} & set(words):
                    raise BrokenContractError(f"{words}: exit code {ended.code}") from ended


class Annotations:
    """Boxes of an image as VOC's XML."""

    share = 330

    def __init__(self, folder):
        from projects.datasets.voc import read_annotation

        self._read, self._path = read_annotation, folder / "one.xml"

    def seeds(self):
        one = (
            "<annotation><size><width>20</width><height>10</height></size><object><name>dog</name>"
            "<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9.5</xmax>"
            "<ymax>8</ymax></bndbox></object></annotation>"
        )
        bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
        other = "<?xml version='1.0' encoding='utf-16'?><annotation/>"
        texts = (one, "<annotation/>", bomb, other, one.replace("9.5", "nan"))
        return [bytes([place]) + each.encode() for place in (0, 1) for each in texts]

    def run(self, data):
        self._path.write_bytes(data[1:])
        bad = "drop" if data[:1] and data[0] % 2 else "error"
        found = self._read(self._path, size=(20, 10), bad_boxes=bad)
        if not (found.boxes[:, :2] < found.boxes[:, 2:]).all():
            raise BrokenContractError(f"a box without a pixel: {found.boxes}")


class Images:
    """Image and mask files: the first byte says which, and its ending."""

    share = 20
    _endings = (".png", ".jpg", ".bmp", ".webp")

    def __init__(self, folder):
        from actiontrack.web.images import checked
        from projects.datasets.decode import decode_image
        from projects.datasets.masks import MaskSettings, open_masks

        self._checked, self._decode = checked, decode_image
        self._settings, self._open = MaskSettings, open_masks
        self._images, self._masks = folder / "images", folder / "masks"
        for each in (self._images, self._masks):
            each.mkdir()
            for name in ("a", "b"):
                (each / f"{name}.png").write_bytes(png(np.eye(8)))
        self._scratch = folder

    def seeds(self):
        rng, found = np.random.default_rng(0), []
        arrays = (rng.integers(0, 255, (8, 8, 3)), rng.integers(0, 2, (8, 8)))
        for place, kind in enumerate(("PNG", "JPEG", "BMP", "WEBP")):
            for array in arrays:
                target = io.BytesIO()
                Image.fromarray(np.asarray(array, np.uint8)).save(target, kind)
                found += [
                    bytes([2 * place]) + target.getvalue(),
                    bytes([2 * place + 1]) + target.getvalue(),
                ]
        for mode in ("P", "1", "I;16", "RGBA", "LA"):
            target = io.BytesIO()
            Image.fromarray(np.eye(8, dtype=np.uint8)).convert(mode).save(target, "PNG")
            found.append(b"\1" + target.getvalue())
        return found

    def run(self, data):
        kind = data[0] % 8 if data else 0
        path = self._scratch / f"one{self._endings[kind // 2]}"
        path.write_bytes(data[1:])
        with contextlib.suppress(ActionTrackError):
            self._checked(data[1:])
        if kind % 2 == 0:
            self._decode(path)
            return
        (self._masks / "a.png").write_bytes(data[1:])
        settings = self._settings(images=str(self._images), masks=str(self._masks))
        self._open(settings)


class Tables:
    """CSV files of projects: wrong labels, or the votes of FERPlus."""

    share = 20

    def __init__(self, folder):
        from projects.datasets.ferplus import EMOTIONS, VOTED, open_ferplus
        from projects.datasets.noisy_labels import read_noisy_labels

        self._noisy, self._ferplus, self._folder = read_noisy_labels, open_ferplus, folder
        self._source = SimpleNamespace(
            ids=np.arange(20), labels=np.zeros(20, np.int64), class_names=("cat", "dog", "NA")
        )
        usages = ("Training", "PrivateTest", "PublicTest")
        rows = [f"{usage},fer{place}.png,9,1,0,0,0,0,0,0,0,0" for place, usage in enumerate(usages)]
        self._votes = "\n".join([f"Usage,Image name,{','.join(VOTED)}", *rows, ""])
        pixels = " ".join(["7"] * 48 * 48)
        images = "\n".join(["emotion,pixels,Usage", *(f"0,{pixels},{each}" for each in usages), ""])
        (folder / "fer2013.csv").write_text(images)
        assert len(EMOTIONS) == 8

    def seeds(self):
        noisy = ("id,label\n17,dog\n3,cat\n", "id,label\n17,1\n", '"id","label"\n"1","NA"\n')
        return [b"\0" + each.encode() for each in noisy] + [b"\1" + self._votes.encode()]

    def run(self, data):
        if not data or data[0] % 2 == 0:
            path = self._folder / "noisy.csv"
            path.write_bytes(data[1:])
            labels = self._noisy(path, self._source)
            if labels.min() < 0 or labels.max() > 2:
                raise BrokenContractError(f"labels {labels}")
            return
        (self._folder / "fer2013new.csv").write_bytes(data[1:])
        for each in self._ferplus(self._folder, "majority"):
            each.read(np.arange(min(2, len(each.ids))))


#: Name -> class. `share` is its part of all inputs: what is cheap gets more.
TARGETS = {
    "files": Files,
    "manifest": ManifestJson,
    "verdict-lines": VerdictLines,
    "verdict-files": VerdictFiles,
    "command-line": CommandLine,
    "filters": Filters,
    "web-query": WebQuery,
    "parameters": Parameters,
    "annotations": Annotations,
    "images": Images,
    "tables": Tables,
}


def surround(folder, setenv, setattr_, chdir):
    """What targets need around them: commands write into a folder, and none becomes a server."""
    (folder / "work").mkdir(exist_ok=True)
    chdir(folder / "work")
    setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
    setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    setenv("MPLBACKEND", "agg")

    def no_server(*_):
        raise SystemExit(0)

    setattr_(os, "execve", no_server)


def scratch_root():
    """A folder in memory where there is one: every input is a file."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of one's own is made in it
    return str(shared) if shared.is_dir() and sys.platform == "linux" else None
