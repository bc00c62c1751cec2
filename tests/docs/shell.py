"""Checks the shell commands that the documentation prints: programs, options, entry points, files.

Nothing is run. What is not ours is checked as far as it can be without running it.
"""

import importlib.util
import re
import shlex
import tomllib
import warnings

import click
import yaml
from helpers import ROOT

from actiontrack.cli import cli

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
#: Commands of others, which are printed and not checked.
FOREIGN = {
    ".",
    "apt-get",
    "cd",
    "chmod",
    "cp",
    "curl",
    "dask",
    "do",
    "docker",
    "done",
    "export",
    "for",
    "git",
    "kubectl",
    "mkdir",
    "printf",
    "runuser",
    "set",
    "weed",
}
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
_EXTRA = re.compile(r"(?:\.|actiontrack)\[([\w,-]+)\]")


def check(block):
    """Raise AssertionError for the first command of a block that could not be run."""
    for words in commands(block):
        check_command(words)


def commands(block):
    """The simple commands of a block, each a list of words; comments are left out."""
    lines = re.sub(r"\\\n", " ", block).splitlines()
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words = list(lexer)
        part = []
        for word in [*words, ";"]:
            if set(word) <= set(";&|"):
                if part:
                    yield _without_assignments(part)
                part = []
            else:
                part.append(word)


def check_command(words):
    """Check one command, a list of words."""
    program, *arguments = words or ["."]
    if program == "do":
        check_command(arguments)
    elif program == "actiontrack":
        check_click(cli, arguments, "actiontrack")
    elif program == "mlflow":
        check_mlflow(arguments)
    elif program in {"python", "python3", "torchrun"}:
        check_python(arguments)
    elif program == "make":
        for target in arguments:
            assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.M), f"no target {target}"
    elif program == "pip":
        named = ",".join(each for word in arguments for each in _EXTRA.findall(word)).split(",")
        unknown = [each for each in named if each and each not in EXTRAS]
        assert not unknown, f"pyproject.toml has no extra {unknown[0]}"
    elif program.endswith(".sh"):
        assert (ROOT / program).is_file(), f"there is no {program}"
    else:
        assert program in FOREIGN, f"nobody knows the command {program!r}: add it to FOREIGN"


def check_click(group, arguments, path):
    """Check the names of commands and options, and values where they are choices."""
    command, names = group, list(arguments)
    while isinstance(command, click.Group) and names and not names[0].startswith("-"):
        name = names.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{path} has no command {name!r}"
        command, path = found, f"{path} {name}"
    context = click.Context(command, info_name=path, resilient_parsing=False)
    try:
        values, rest, _ = command.make_parser(context).parse_args(names)
    except click.UsageError as error:
        raise AssertionError(f"{path}: {error.format_message()}") from error
    assert not rest, f"{path} takes no argument {rest[0]!r}"
    for parameter in command.params:
        given = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(given, str):
            assert given in parameter.type.choices, f"{path}: {given!r} is no choice"


def check_mlflow(arguments):
    """Check an MLflow command; of `mlflow run` the entry point and its parameters too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow's own modules warn of is not ours to mend
        from mlflow.cli import cli as mlflow_cli
    check_click(mlflow_cli, arguments, "mlflow")
    if arguments[0] != "run":
        return
    project = ROOT / arguments[1] / "MLproject"
    assert project.is_file(), f"there is no project at {arguments[1]}"
    entries = yaml.safe_load(project.read_text(encoding="utf-8"))["entry_points"]
    entry = _value(arguments, "-e") or "main"
    assert entry in entries, f"{project} has no entry point {entry!r}"
    given = [arguments[at + 1].split("=")[0] for at, word in enumerate(arguments) if word == "-P"]
    unknown = set(given) - set(entries[entry]["parameters"])
    assert not unknown, f"the entry point {entry} has no parameter {min(unknown)!r}"


def check_python(arguments):
    """Check that a module or a file is there, and the options of the project's own modules."""
    module = _value(arguments, "-m")
    if module is None:
        files = [each for each in arguments if each.endswith(".py")]
        assert files, f"python {' '.join(arguments)}: which file?"
        assert (ROOT / files[0]).is_file(), f"there is no {files[0]}"
        return
    assert importlib.util.find_spec(module), f"there is no module {module}"
    entries = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    known = [each for each in entries.values() if f"python -m {module} " in each["command"]]
    options = arguments[arguments.index(module) + 1 :]
    for option in (each.split("=")[0] for each in options if each.startswith("--")):
        if known and option != "--help":
            assert option.removeprefix("--") in known[0]["parameters"], f"{module} has no {option}"


def _value(words, option):
    return words[words.index(option) + 1] if option in words else None


def _without_assignments(words):
    kept = list(words)
    while kept and _ASSIGNED.match(kept[0]):
        kept.pop(0)
    return kept
