"""Every piece of code that the documentation prints: Python is run, shell commands are checked."""

import contextlib
import re
import threading

import flask
import mlflow
import pytest
import shell
from helpers import ROOT
from stage import Stage
from sybil.document import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from werkzeug.serving import make_server

from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody

DOCUMENTS = [
    "README.md",
    "examples/README.md",
    "projects/README.md",
    "projects/models/README.md",
    *sorted(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
]
#: What stands in printed code, and what stands for it here: no server, runs of the stage.
STAGED = {
    "http://localhost:5000": "{uri}",
    'experiments=("Default",)': 'experiments=("models",)',
    'np.load("cifar10-cscores-orig-order.npz")': (
        "dict(scores=np.linspace(0, 1, 10), labels=np.arange(10))"
    ),
    'Client("tcp://10.0.0.1:8786")': 'Client(processes=False, dashboard_address=":0")',
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tracking_uri):
    """Runs that printed code can read."""
    return Stage(tmp_path_factory.mktemp("stage"), tracking_uri)


@pytest.fixture(scope="module")
def pages(stage):
    """Address of a server with our pages on the stage's store."""
    app = flask.Flask("printed_code")
    install(app, Everybody(), store=stage.store, key=b"docs")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def blocks(document, language, evaluator=None):
    """The code blocks of a document, ready to be evaluated one after the other."""
    parser = CodeBlockParser(language, evaluator or (lambda _: None))
    return list(Document.parse(str(ROOT / document), parser).examples())


def in_documents(language):
    return [each for each in DOCUMENTS if blocks(each, language)]


@pytest.mark.parametrize("document", in_documents("python"))
def test_printed_python_runs(document, stage, tmp_path, monkeypatch, request):
    run = PythonEvaluator()
    uri = request.getfixturevalue("pages") if document == "docs/web.md" else stage.uri

    def evaluate(example):
        printed = example.parsed
        text = str(printed)
        for name, instead in STAGED.items():
            text = text.replace(name, instead.format(uri=uri))
        example.parsed = type(printed)(text, printed.offset, printed.line_offset)
        run(example)

    examples = blocks(document, "python", evaluate)
    monkeypatch.setenv("ACTIONTRACK_SPOOL", str(tmp_path / "spool"))
    mlflow.set_experiment(experiment_id=_experiment(tmp_path))
    folder = stage.record_folder("pixels") if document == "docs/format.md" else tmp_path
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
    """A block with a title is filled with an example, which is run by a test of its own."""
    for document in DOCUMENTS:
        lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
        fences = [line.strip().removeprefix("```") for line in lines if "```" in line.lstrip()[:3]]
        for name in fences[::2]:
            titled = re.fullmatch(r'(?:python|toml) title="(examples/[\w/]+\.\w+)"', name)
            if titled:
                assert (ROOT / titled[1]).is_file()
            else:
                assert name in {"python", "sh", "text", "yaml", "json", "markdown"}, (
                    f"{document}: {name}"
                )


def _experiment(folder):
    client = mlflow.MlflowClient()
    return client.create_experiment(f"docs {folder.name}", (folder / "artifacts").as_uri())


def test_the_readme_is_short():
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert len(words) <= 700
