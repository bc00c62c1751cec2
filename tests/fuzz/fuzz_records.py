"""Targets of a record: its Parquet files and its manifest."""

import contextlib
import copy
import hashlib
import json
from dataclasses import replace

from fuzz_contract import read_everything, write_record

from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import (
    manifest_checksum,
    read_manifest,
)
from actiontrack.record.paths import block_path


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
