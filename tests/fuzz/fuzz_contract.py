"""The contract that each input must keep, and what all targets share."""

import contextlib
import io
import resource
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image

from actiontrack.errors import ActionTrackError
from actiontrack.record.losses import (
    read_curve,
    read_history,
    read_step,
    read_steps,
    write_losses,
)
from actiontrack.record.manifest import (
    Manifest,
    write_manifest,
)
from actiontrack.record.maps import read_map, read_map_index, write_maps
from actiontrack.record.paths import losses_path, picture_path
from actiontrack.record.pictures import (
    Pictures,
    read_boxes,
    write_boxes,
    write_pictures,
    write_thumbnails,
)
from actiontrack.record.samples import Samples, read_samples, write_samples
from actiontrack.record.steps import Block, StepEntry, StepTotals
from actiontrack.record.tokens import read_tokens, write_tokens
from actiontrack.record.vectors import (
    read_features,
    read_probabilities,
    read_scores,
    write_features,
    write_probabilities,
    write_scores,
)
from actiontrack.scores import score_table
from actiontrack.testing import make_history

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
    history = make_history(n_steps=5, n_samples=N)
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
    seen = np.ones((5, N), np.bool_)
    seen[1, 1] = False
    columns = {"loss": history.losses, **history.measures, "box": history.losses + 1}
    steps = [
        StepEntry(step, 1.0, int(seen[row].sum()))
        for row, step in enumerate(history.steps.tolist())
    ]
    blocks = []
    for number, rows in enumerate((slice(0, 2), slice(2, 4), slice(4, 5)), start=1):
        grids = {each: grid[rows] for each, grid in columns.items()}
        path = losses_path(number)
        files[path] = write_losses(folder, path, steps[rows], grids, seen[rows])
        blocks.append(Block.of(path, steps[rows]))
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
    files["tokens.parquet"] = write_tokens(folder, {1: ["a", "b"], 4: ["猫"]})
    maps = [rng.random((2, 3)).astype(np.float32) if each else None for each in range(N)]
    files |= write_maps(folder, maps)
    manifest = Manifest(
        split="test", mode="probe", loss_name="cross_entropy", delta_kind="epoch", n_samples=N,
        id_type="string", digests={"ids": "0" * 64, "labels": None, "inputs": None},
        class_names=history.class_names, model="cnn", measures=tuple(history.measures),
        components=("box",), source={"kind": "folder", "root": "/nowhere"},
        pixel_loss_name="focal", void="ignored", maps={"factor": 1, "dtype": "float32", "step": 5},
        blocks=tuple(blocks), totals=StepTotals.of(steps), files=files, status="complete",
        revision=9, writer="actiontrack 0",
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
        "tokens.parquet": lambda: read_tokens(manifest, fetch),
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
    if manifest.n_steps:
        read_losses(manifest, fetch)


def read_losses(manifest, fetch):
    """Read the losses of a record whole, by step and by sample: all must agree."""
    history = read_history(manifest, fetch)
    if history.losses.shape != (manifest.n_steps, manifest.n_samples):
        raise BrokenContractError(f"losses of {history.losses.shape}")
    if manifest.n_samples <= N:
        score_table(history)
    steps = read_steps(manifest, fetch)
    if [step.step for step in steps] != history.steps.tolist():
        raise BrokenContractError(f"steps {steps}")
    _, grids, _ = read_step(manifest, fetch, steps[-1].step, ["loss"])
    if not np.array_equal(grids["loss"], history.losses[-1], equal_nan=True):
        raise BrokenContractError(f"one step {grids['loss']}, of the history {history.losses[-1]}")
    last = manifest.n_samples - 1
    _, grids, _ = read_curve(manifest, fetch, last, ["loss"])
    if not np.array_equal(grids["loss"], history.losses[:, last], equal_nan=True):
        raise BrokenContractError(f"a curve {grids['loss']}, of {history.losses[:, last]}")
