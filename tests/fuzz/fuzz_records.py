"""Targets of a record: its Parquet files, what their footers say of steps, and its manifest."""

import contextlib
import copy
import json
from dataclasses import replace

import pyarrow.parquet as pq
from blake3 import blake3
from fuzz_contract import read_everything, read_losses, write_record

from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_steps
from actiontrack.record.manifest import (
    manifest_checksum,
    read_manifest,
)
from actiontrack.record.steps import StepTotals


def entry_of(content):
    """The entry of a file of this content, which is read in pieces where that can be."""
    digest = blake3(content).hexdigest()
    return FileEntry(digest, len(content), pieces=(digest,) if content else ())


class Files:
    """Parquet files of a record, each with digests that fit: the first byte names the file."""

    share = 15

    def __init__(self, folder):
        self._folder = folder / "record"
        self._manifest = write_record(self._folder)
        self._names = [name for name in self._manifest.files if name.endswith(".parquet")]
        self._steps = read_steps(self._manifest, lambda name: self._folder / name)

    def seeds(self):
        return [
            bytes([place]) + (self._folder / name).read_bytes()
            for place, name in enumerate(self._names)
        ]

    def run(self, data):
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        content, path = data[1:], self._folder.with_name("altered.parquet")
        path.write_bytes(content)
        kept = {name: entry_of(content)}
        blocks = tuple(block for block in self._manifest.blocks if block.path == name)
        steps = [
            step
            for block in blocks
            for step in self._steps
            if block.first_step <= step.step <= block.last_step
        ]
        if blocks:
            kept["samples.parquet"] = self._manifest.files["samples.parquet"]
        elif name.startswith("maps"):
            kept = {
                each: self._manifest.files[each] for each in self._names if "maps" in each
            } | kept
        totals = StepTotals.of(steps)
        manifest = replace(self._manifest, files=kept, blocks=blocks, totals=totals)
        read_everything(manifest, lambda each: path if each == name else self._folder / each)


class StepsText:
    """What the footer of a file of losses says of its two steps."""

    share = 30

    def __init__(self, folder):
        self._folder = folder / "record"
        self._manifest = write_record(self._folder)
        self._block = self._manifest.blocks[0]
        path = self._folder / self._block.path
        self._table, self._path = pq.read_table(path), path.with_name("altered.parquet")
        self._text = self._table.schema.metadata[b"actiontrack.steps"]

    def seeds(self):
        body = json.loads(self._text)
        wrong = (
            {"n_steps": 3}, {"step": [1, 2]}, {"step": [2, 1]}, {"step": 0.5}, {"step": 2**40},
            {"delta": [1, 0]}, {"delta": float("nan")}, {"n_seen": [8, 7]}, {"n_seen": [[7], [6]]},
            {"n_nonfinite": True}, {"n_duplicates": 10**30}, {"n_seen": 10**400}, {"delta": None},
        )  # fmt: skip
        texts = [json.dumps(body | change).encode() for change in wrong]
        return [self._text, *texts, b"[" * 3000, b"{}", b"null", b"\xff", b""]

    def run(self, data):
        pq.write_table(self._table.replace_schema_metadata({"actiontrack.steps": data}), self._path)
        entry = entry_of(self._path.read_bytes())
        files = {**self._manifest.files, self._block.path: entry}
        totals = StepTotals(2, 1, 2, 2.0, 13)
        manifest = replace(self._manifest, files=files, blocks=(self._block,), totals=totals)
        altered = self._block.path
        read_losses(manifest, lambda name: self._path if name == altered else self._folder / name)


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
