"""Every piece of code that the documentation prints: Python is run, shell commands are checked."""

import contextlib

import mlflow
import pytest
import shell
import torch
from helpers import ROOT
from stage import Stage
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

DOCUMENTS = [
    "README.md",
    "examples/README.md",
    "projects/README.md",
    "projects/models/README.md",
    *sorted(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
]
#: What stands in printed code, and what stands for it here: no server, runs of the stage.
STAGED = {"http://localhost:5000": "{uri}", 'experiments=("Default",)': 'experiments=("models",)'}
SNIPPET = '--8<-- "'


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tracking_uri):
    """Runs that printed code can read."""
    return Stage(tmp_path_factory.mktemp("stage"), tracking_uri)


def blocks(document, language, evaluator=None):
    """The code blocks of a document, ready to be evaluated one after the other."""
    parser = CodeBlockParser(language, evaluator or (lambda _: None))
    return list(Document.parse(str(ROOT / document), parser).examples())


def in_documents(language):
    return [each for each in DOCUMENTS if blocks(each, language)]


@pytest.mark.parametrize("document", in_documents("python"))
def test_printed_python_runs(document, stage, tmp_path, monkeypatch):
    run = PythonEvaluator()

    def evaluate(example):
        if example.parsed.startswith(SNIPPET):  # a script of examples/, which has a test of its own
            assert (ROOT / example.parsed.removeprefix(SNIPPET).strip().strip('"')).is_file()
            return
        printed = example.parsed
        text = str(printed)
        for name, instead in STAGED.items():
            text = text.replace(name, instead.format(uri=stage.uri))
        example.parsed = type(printed)(text, printed.offset, printed.line_offset)
        run(example)

    examples = blocks(document, "python", evaluate)
    monkeypatch.setenv("ACTIONTRACK_SPOOL", str(tmp_path / "spool"))
    mlflow.set_experiment(experiment_id=_experiment(tmp_path))
    folder = stage.record_folder("pixels") if document == "docs/format.md" else tmp_path
    if document == "README.md":
        examples[0].document.namespace.update(_loop())
    with contextlib.chdir(folder):
        for example in examples:
            example.evaluate()


@pytest.mark.parametrize("document", in_documents("sh"))
def test_printed_commands_exist(document):
    for example in blocks(document, "sh", lambda example: shell.check(example.parsed)):
        example.evaluate()


@pytest.mark.parametrize(
    "command",
    [
        "actiontrack gallery --worst",
        "actiontrack galery",
        "actiontrack compare --method kendall",
        "mlflow run . -e tain",
        "mlflow run . -e train \\\n  -P epoch=3",
        "for seed in 0 1; do\n  python -m projects.train --sed $seed\ndone",
        "python examples/pytorch.py",
        "make trian",
        "pip install '.[trian]'",
        "cd main && rm -rf x",
    ],
)
def test_a_command_that_does_not_exist_is_found(command):
    with pytest.raises(AssertionError):
        shell.check(command)


def test_every_fenced_block_says_what_it_is():
    for document in DOCUMENTS:
        fences = [
            line.strip()
            for line in (ROOT / document).read_text(encoding="utf-8").splitlines()
            if line.strip().startswith("```")
        ]
        assert {*fences[::2]} <= {f"```{each}" for each in ("python", "sh", "text", "yaml", "json")}


def _experiment(folder):
    client = mlflow.MlflowClient()
    return client.create_experiment(f"docs {folder.name}", (folder / "artifacts").as_uri())


def _loop():
    """What a reader of the README has already: a model, its data, its training."""
    model = torch.nn.Linear(4, 3)
    ids, images, labels = torch.arange(6), torch.randn(6, 4), torch.arange(6) % 3
    return {
        "mlflow": mlflow, "torch": torch, "names": ("a", "b", "c"), "epochs": 2, "model": model,
        "train": lambda model: model.train(), "test_loader": [(ids, images, labels)],
        "logits": model(images),
    }  # fmt: skip
