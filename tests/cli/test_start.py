"""What the command line imports before it knows that it needs it: click, and little of our own."""

from dataclasses import replace
from typing import get_args

import click
import pytest

from actiontrack import cli, compare
from actiontrack.reporting import exports
from actiontrack.reporting.exports import training
from actiontrack.testing import record_history

# What the installed script does. The last line of stderr: which packages beside the standard
# library and click the command imported, and which parts of ours.
CODE = """
import atexit, sys
before = set(sys.modules)

def tell():
    names = [name.split(".") for name in set(sys.modules) - before]
    others = {name[0] for name in names} - sys.stdlib_module_names - {"actiontrack"}
    ours = {name[1] for name in names if name[0] == "actiontrack" and name[1:]}
    print(*sorted(others), "|", *sorted(ours), file=sys.stderr)

atexit.register(tell)
from actiontrack.cli import main
"""
ONE = "main(sys.argv[1:])"
SEVERAL = """
for command in ("runs", "scores", "classes", "curves", "compare", "noise", "stability", "doctor"):
    main([command, *sys.argv[1:]])
"""
LIGHT = "click | _version cli errors settings"
DRAWING = {"matplotlib", "seaborn"}


@pytest.fixture
def imports(in_subprocess):
    """A function of a command: exit code, output, and what a new interpreter imported for it."""

    def run(*words, code=CODE + ONE, **environment):
        done = in_subprocess(code, *words, check=False, **environment)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr.splitlines()[-1]

    return run


def packages(line):
    """Those of others, and our own parts."""
    others, _, ours = line.partition(" | ")
    return set(others.split()), set(ours.split())


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_a_help_page_needs_click_alone(imports, command):
    code, out, imported = imports(command, "--help")
    assert out.startswith(f"Usage: actiontrack {command}")
    assert (code, imported) == (0, LIGHT)


@pytest.mark.parametrize(
    "words", [("--help",), ("-h",), ("--version",), *(("completion", shell) for shell in
    ("bash", "zsh", "fish"))], ids=" ".join,
)  # fmt: skip
def test_what_reads_no_record_needs_click_alone(imports, words):
    code, out, imported = imports(*words)
    assert out
    assert (code, imported) == (0, LIGHT)


@pytest.mark.parametrize(
    "words",
    [
        ("runz",),
        ("--runz",),
        ("runs", "--runz"),
        ("runs", "surplus"),
        ("compare", "--method", "kendall"),
        ("export", "--output", "x", "--to", "paper"),
        ("scores", "--top", "none"),
        ("changed",),
        ("sync", "no/such/folder"),
    ],
    ids=" ".join,
)
def test_wrong_usage_needs_click_alone(imports, words):
    code, out, imported = imports(*words)
    assert (code, out, imported) == (2, "", LIGHT)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sc", ["scores"]),
        ("compare --me", ["--method"]),
        ("compare --method ", ["spearman", "pearson"]),
        ("export --favour ", ["hard", "easy", "clean"]),
    ],
)
def test_the_tab_key_needs_click_alone(imports, typed, offered):
    line = f"actiontrack {typed}"
    code, out, imported = imports(
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
        _ACTIONTRACK_COMPLETE="bash_complete",
    )
    assert [row.partition(",")[2] for row in out.splitlines()] == offered
    assert (code, imported) == (0, LIGHT)


def test_ids_are_hashed_without_mlflow_or_scipy(imports, tmp_path):
    (tmp_path / "ids.txt").write_text("a\n")
    code, _, imported = imports("hash-ids", "ids.txt", ACTIONTRACK_ID_SALT="a salt of some length")
    others, ours = packages(imported)
    assert (code, others & {"mlflow", "scipy", *DRAWING}) == (0, set())
    assert ours <= {"_version", "cli", "errors", "record", "scores", "history", "settings"}


def test_a_spool_without_records_is_told_without_mlflow_or_scipy(imports, tmp_path):
    code, _, imported = imports("sync", str(tmp_path))
    others, ours = packages(imported)
    assert (code, others & {"mlflow", "scipy", *DRAWING}) == (0, set())
    assert ours.isdisjoint({"analysis", "plots", "reporting"})


def test_tables_that_are_not_drawn_need_nothing_that_draws(
    imports, new_run, store, spool, history, experiment, tracking_uri
):
    truth = history.labels.copy()
    truth[:5] = (truth[:5] + 1) % 3
    for _ in range(2):
        record_history(replace(history, true_labels=truth), new_run(), store, spool)
    words = ["--experiment", experiment, "--tracking-uri", tracking_uri]
    code, _, imported = imports(*words, code=CODE + SEVERAL)
    others, ours = packages(imported)
    assert code == 0
    assert others.isdisjoint(DRAWING)
    assert ours.isdisjoint({"plots", "reporting"})


def choices(command, option):
    """The words that an option of a command takes."""
    (parameter,) = (each for each in cli.cli.commands[command].params if option in each.opts)
    assert isinstance(parameter.type, click.Choice)
    return tuple(parameter.type.choices)


def test_exports_are_all_that_there_are():
    assert choices("export", "--to") == ("tables", *exports.EXPORTS)


def test_sampling_weights_favour_what_they_can():
    assert choices("export", "--favour") == training.FAVOURS


def test_correlations_are_all_that_there_are():
    assert choices("compare", "--method") == get_args(compare.Method)
