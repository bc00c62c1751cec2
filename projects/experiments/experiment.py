"""An experiment: one parent run, its steps as nested runs, and a report at its end.

A step carries the tag `actiontrack.step`, a digest of all that determines its result. Where the
experiment holds a finished run with the same tag, that run is taken and nothing is done again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

import actiontrack
from actiontrack.errors import StoreError
from actiontrack.reporting import log_report
from actiontrack.reporting.document import Report, Section
from actiontrack.store import RunInfo, Store
from projects.children import Child, run_children
from projects.datasets.files import visible_files
from projects.params.experiments import ScaledParams
from projects.params.reading import to_strings
from projects.params.training import TrainParams
from projects.run_log import lasting
from projects.stacked import train_stacked
from projects.train import train

__all__ = ["STEP_TAG", "Experiment", "experiment"]

STEP_TAG = "actiontrack.step"


@contextmanager
def experiment(name: str, params: ScaledParams, store: Store) -> Iterator["Experiment"]:
    """The parent run of an experiment: a new one, or the one that `mlflow run` has started.

    Args:
        name: of the experiment and of its run.
        params: its parameters, logged with the values that the scale has filled in.
        store: the tracking server.
    """
    with store.run(name=f"{name} {params.scale}") as run:
        store.log_params(run.run_id, _effective(params))
        yield Experiment(name, params, store, run)


class Experiment:
    """Steps and report of an experiment, in its parent run. `experiment` makes it.

    Attributes:
        store: the tracking server.
        run: the parent run.
    """

    def __init__(self, name: str, params: ScaledParams, store: Store, run: RunInfo) -> None:
        self.store, self.run = store, run
        self._name, self._params = name, params
        self._steps: list[dict[str, object]] = []

    def train(self, trainings: Sequence[TrainParams], *, stacked: bool = False) -> list[RunInfo]:
        """Run trainings as child runs, without those that are done already.

        With the parameter `parallel` above 1 that many run at once, each in a process of its own;
        with 1 they run in this process.

        Args:
            trainings: what to train.
            stacked: train them all at once in this process, see `projects.stacked`; they differ
                in the seed only.

        Returns:
            Their runs, in the order of `trainings`.

        Raises:
            ActionTrackError: if one of them fails.
            StoreError: if a record could not be uploaded.
        """
        identities = [training_identity(params) for params in trainings]
        done = [self._finished(identity) for identity in identities]
        missing = [
            (params, identity)
            for params, identity, run in zip(trainings, identities, done, strict=True)
            if run is None
        ]
        for params, run in zip(trainings, done, strict=True):
            if run is not None:
                _print_skipped(_title(params), run)
        start = self._train_here if self._params.parallel == 1 else self._train_in_processes
        if stacked:
            start = self._train_at_once
        fresh = iter(start(missing))
        runs = [run or self.store.get_run(next(fresh)) for run in done]
        for run, skipped in zip(runs, done, strict=True):
            self._note_step(run, skipped=skipped is not None)
        return runs

    def _train_here(self, missing: Sequence[tuple[TrainParams, str]]) -> list[str]:
        run_ids = []
        for params, identity in missing:
            print(f"\n== {_title(params)}", flush=True)
            run, synced = train(params, self.store, nested=True)
            if not synced:
                raise StoreError(
                    f"{_title(params)}: the record of run {run.run_id} is not uploaded. Run "
                    "`actiontrack sync`, then the experiment again."
                )
            self.store.set_tags(run.run_id, {STEP_TAG: identity})
            run_ids.append(run.run_id)
        return run_ids

    def _train_at_once(self, missing: Sequence[tuple[TrainParams, str]]) -> list[str]:
        if not missing:
            return []
        print(f"\n== {', '.join(_title(params) for params, _ in missing)}, at once", flush=True)
        tags = [{STEP_TAG: identity} for _, identity in missing]
        runs = train_stacked([params for params, _ in missing], self.store, tags=tags)
        return [run.run_id for run in runs]

    def _train_in_processes(self, missing: Sequence[tuple[TrainParams, str]]) -> list[str]:
        children = [
            Child(
                entry_point="train",
                parameters=to_strings(params),
                name=_title(params).removeprefix("train "),
                tags={STEP_TAG: identity},
            )
            for params, identity in missing
        ]
        return run_children(self.store, self.run, children, parallel=self._params.parallel)

    def step(
        self, kind: str, identity: Mapping[str, str], work: Callable[[RunInfo], None]
    ) -> RunInfo:
        """Do one step in this process, in a nested run, unless it is done already.

        Args:
            kind: what it does, the name of its run.
            identity: all that determines its result, as text.
            work: gets the run and leaves its results there, as artifacts.

        Returns:
            The run that holds the results.
        """
        digest = _digest({"kind": kind, **identity})
        done = self._finished(digest)
        if done is not None:
            _print_skipped(kind, done)
            self._note_step(done, skipped=True)
            return done
        print(f"\n== {kind}", flush=True)
        with self.store.run(name=kind, nested=True) as run:
            self.store.set_tags(run.run_id, {STEP_TAG: digest})
            work(run)
        ended = self.store.get_run(run.run_id)
        self._note_step(ended, skipped=False)
        return ended

    def finish(self, report: Report, finding: str) -> None:
        """Save the report in the parent run, and print the finding and where to look.

        Args:
            report: saved as a page, Markdown, tables and figures, in the folder of the
                experiment's name, with the finding before it and settings and steps after it.
            finding: one sentence with numbers.
        """
        whole = Report(
            title=report.title,
            sections=[
                Section(heading="Finding", text=finding),
                *report.sections,
                Section(heading="Settings", frame=_settings(self._params)),
                Section(
                    heading="Steps",
                    text="Each step is a run of its own. A step that was finished before is not "
                    "done again.",
                    frame=pd.DataFrame(self._steps),
                ),
            ],
            sources=report.sources,
        )
        log_report(self.store, self.run.run_id, whole, self._name)
        self.store.set_tags(self.run.run_id, {"mlflow.note.content": finding})
        root = self.store.local_root(self.run) or self.run.artifact_uri
        print(f"\n{finding}\n\nrun        {self.run.run_id}")
        print(f"report     {root}/{self._name}/report.html", flush=True)

    def _note_step(self, run: RunInfo, *, skipped: bool) -> None:
        seconds = round((run.end_time - run.start_time) / 1000, 1)
        self._steps.append(
            {"step": run.name, "run_id": run.run_id, "skipped": skipped, "seconds": seconds}
        )

    def _finished(self, digest: str) -> RunInfo | None:
        return self.store.find_finished(self.run.experiment_id, {STEP_TAG: digest})


def _title(params: TrainParams) -> str:
    return f"train {params.model} seed {params.seed}"


def training_identity(params: TrainParams) -> str:
    """Digest of all that determines a training: parameters, version, and the user's own files.

    The files of an image folder count by path and size, a file of labels by its content.
    """
    described: dict[str, object] = {"kind": "train", **lasting(params)}
    if params.dataset.startswith("folder:"):
        described["files"] = _listing(Path(params.dataset.removeprefix("folder:")).expanduser())
    return _digest(described)


def _digest(described: Mapping[str, object]) -> str:
    whole = {"version": actiontrack.__version__, **described}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def _listing(root: Path) -> str:
    """Digest of the paths and sizes of all files below a folder, hidden ones left out."""
    digest = hashlib.sha256()
    for path in visible_files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _effective(params: ScaledParams) -> dict[str, str]:
    """The values that the scale has filled in, under names that `mlflow run` does not log."""
    filled = params.preset(params.scale)
    return {
        f"effective.{name}": text for name, text in to_strings(params).items() if name in filled
    }


def _settings(params: ScaledParams) -> pd.DataFrame:
    values = to_strings(params)
    return pd.DataFrame({"parameter": list(values), "value": list(values.values())})


def _print_skipped(step: str, run: RunInfo) -> None:
    print(f"\n== {step}: skipped, finished already in run {run.run_id}", flush=True)
