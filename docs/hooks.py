"""What the site adds to the pages in docs/: pages from other files, links to the reference.

- The README of the experiments, the table of the models and the changelog become pages.
- The tutorial notebook becomes a page with its outputs as images; the notebook itself is beside it.
- The pages of the commands, the scores and the settings get a table of all of them.
- The page of the compatibility gets tables of what `make matrix` has seen.
- A block of code whose title is a file of examples/ is filled with that file.
- Each public module of the package gets a page of the API reference.
- A name in backticks, such as `actiontrack.scores.action`, becomes a link to its entry.
"""
# ruff: noqa: INP001

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

from actiontrack.scores import SCORES, score_unit
from actiontrack.settings import SETTINGS

ROOT = Path(__file__).parents[1]

#: Files outside docs/ that are pages, and where their relative links lead.
PAGES = {
    "experiments.md": ("projects/README.md", {"models/README.md": "models.md"}),
    "models.md": ("projects/models/README.md", {}),
    "changelog.md": ("CHANGELOG.md", {}),
}
NOTEBOOKS = ("tutorial.ipynb",)

#: Modules that users import from. The commands and the web pages have pages of their own.
PUBLIC = (
    *("errors", "exports", "history", "scores", "settings", "testing", "verdicts"),
    *("analysis", "compare", "plots", "recorder", "reporting", "store"),
    *("analysis.changes", "analysis.cluster.connection", "analysis.cluster.scores"),
    *("analysis.exploration", "analysis.questions"),
    *("record.digest", "record.losses", "record.manifest", "record.maps", "record.paths"),
    *("record.pictures", "record.rasters", "record.samples", "record.steps", "record.tokens"),
    "record.vectors",
    *("recorder.autolog", "recorder.catboost", "recorder.causal_lm", "recorder.compact"),
    "recorder.criterion",
    "recorder.keras",
    *("recorder.lightgbm", "recorder.lightning", "recorder.loss_check", "recorder.privacy"),
    *("recorder.sklearn", "recorder.torch", "recorder.transformers", "recorder.trl"),
    *("recorder.torchvision", "recorder.ultralytics"),
    "recorder.xgboost",
)
_OFFERED = (
    "`import actiontrack` offers the names in the first table; it loads neither MLflow nor a "
    "training library until one of them is used."
)
_VERSIONS = {
    "python": "Python",
    "mlflow": "MLflow",
    "pandas": "pandas",
    "numpy": "NumPy",
    "pyarrow": "PyArrow",
}
_EXAMPLE = re.compile(r'```(?P<language>\w+) title="(?P<file>examples/[\w/]+\.\w+)"\n```')
_MADE = re.compile("<!-- (?P<what>commands|scores|settings|environments|servers|inside): [^>]* -->")
_NAME = re.compile(r"<code>(actiontrack(?:\.\w+)+)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the API reference into the navigation."""
    for section in config.nav or []:
        if isinstance(section, dict) and "API reference" in section:
            modules = [{_short(module): _path(module)} for module in public_modules()]
            section["API reference"] = [{"Overview": "reference/index.md"}, *modules]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    made: dict[str, str | bytes] = {"reference/index.md": _index()}
    for name, (source, links) in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for old, new in links.items():
            text = text.replace(f"]({old})", f"]({new})")
        made[name] = text
    for name in NOTEBOOKS:
        made |= _notebook(Path(config.docs_dir) / name)
    made |= {_path(name): f"::: {name}\n" for name in public_modules()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill blocks of code with the examples that they are titled by, and make the tables."""

    def block(title: re.Match[str]) -> str:
        code = (ROOT / title["file"]).read_text(encoding="utf-8")
        return f'```{title["language"]} title="{title["file"]}"\n{code}```'

    makers = {
        "commands": _commands,
        "scores": scores_table,
        "settings": settings_table,
        "environments": lambda: matrix_table("environment"),
        "servers": lambda: matrix_table("server"),
        "inside": lambda: matrix_table("inside"),
    }
    markdown = _EXAMPLE.sub(block, markdown)
    return _MADE.sub(lambda comment: makers[comment["what"]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Link names of the package to their entries in the reference, where they have one.

    The double colon before a block of code in a docstring is that of reStructuredText.
    """
    html = re.sub(r"<p>::</p>\s*", "", html).replace("::</p>", ":</p>")
    return _NAME.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', html)


def public_modules() -> list[str]:
    """Modules that users import from, such as "actiontrack.scores"."""
    return sorted(f"actiontrack.{name}" for name in PUBLIC)


def _short(module: str) -> str:
    return module.removeprefix("actiontrack.")


def _path(module: str) -> str:
    return f"reference/{_short(module)}.md"


def _notebook(path: Path) -> dict[str, str | bytes]:
    """A page of a notebook, and the images of its outputs."""
    text, resources = MarkdownExporter().from_filename(
        str(path), resources={"output_files_dir": f"{path.stem}_files"}
    )
    link = f"\n*This page is a notebook: [{path.name}]({path.name}).*\n"
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub('<table[^>]* class="dataframe">', "<table>", text)  # styled as any other
    title, _, rest = text.lstrip().partition("\n")
    page = f"{title}\n{link}{rest}"
    return {f"{path.stem}.md": page} | dict(resources["outputs"])


def scores_table() -> str:
    """A row per score, from the registry."""
    rows = [
        f"| `{name}` | {score.sentence} | {score_unit(name)} "
        f"| {score.hard if score.ranks else ''} | {score.source} |"
        for name, score in SCORES.items()
    ]
    head = ["| column | what it is | unit | hard is | source |", "|---|---|---|---|---|"]
    return "\n".join(head + rows)


def settings_table() -> str:
    """A row per environment variable."""
    rows = [
        f"| `{setting.name}` | {setting.kind} | {setting.default} | {setting.sentence} |"
        for setting in SETTINGS
    ]
    head = ["| variable | value | default | what it does |", "|---|---|---|---|"]
    return "\n".join(head + rows)


def matrix_table(what: str) -> str:
    """A row per environment of `make matrix`, as its latest run has left it.

    Args:
        what: its tests: "environment", "server" or "inside".
    """
    columns = {
        "environment": {"name": "environment"} | _VERSIONS | {"result": "tests"},
        "server": {"server": "server", "mlflow": "client", "python": "Python", "result": "tests"},
        "inside": {"mlflow": "MLflow", "python": "Python", "result": "tests"},
    }[what]
    results = json.loads((ROOT / "tests" / "matrix.json").read_text(encoding="utf-8"))
    rows = [
        f"| {' | '.join(_cell(result.get(name, '')) for name in columns)} |"
        for result in results
        if result["what"] == what
    ]
    head = [f"| {' | '.join(columns.values())} |", f"|{'---|' * len(columns)}"]
    return "\n".join(head + rows)


def _cell(text: str) -> str:
    return text.replace("|", r"\|") or "–"


def _commands() -> str:
    """A section per command, in the words of its help."""
    from actiontrack.cli import cli  # noqa: PLC0415 - only this page needs it

    root = click.Context(cli, info_name="actiontrack", **cli.context_settings)
    parts = [f"## actiontrack\n\n{_command(root)}"]
    for name, command in sorted(cli.commands.items()):
        context = click.Context(command, info_name=name, parent=root)
        parts.append(f"### actiontrack {name}\n\n{_command(context)}")
    return "\n\n".join(parts)


def _command(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [_option(parameter, context) for parameter in command.get_params(context)]
    options = ["| option | |", "|---|---|", *filter(None, rows)]
    words = inspect.cleandoc(command.help or "").replace("\b\n", "")
    return "\n".join([words, "", f"```text\n{usage}\n```", "", *options])


def _option(parameter: click.Parameter, context: click.Context) -> str:
    record = parameter.get_help_record(context)
    if record is None:
        return ""  # an argument: the usage shows it
    names, text = record
    return f"| `{names}` | {text} |"


def _index() -> str:
    """The names that `actiontrack` itself offers, with a line on each, and all modules."""
    names = [f"| `{home}.{name}` | {line} |" for name, home, line in _exported()]
    modules = [
        f"| [{name}]({_path(name).removeprefix('reference/')}) | {_first_line(_tree(name))} |"
        for name in public_modules()
    ]
    return "\n".join(
        [
            "# API reference", "",
            _OFFERED, "",
            "| name | |", "|---|---|", *names, "",
            "## Modules", "",
            "| module | |", "|---|---|", *modules, "",
        ]
    )  # fmt: skip


def _exported() -> Iterator[tuple[str, str, str]]:
    """Name, module that defines it, and first line of its docstring."""
    for node in ast.walk(_tree("actiontrack")):
        public = isinstance(node, ast.ImportFrom) and str(node.module) != "actiontrack._version"
        if public and str(node.module).startswith("actiontrack."):
            for alias in node.names:
                if not alias.name.startswith("_"):  # the version: a text, with no entry
                    yield alias.name, *_definition(str(node.module), alias.name)


def _definition(module: str, name: str) -> tuple[str, str]:
    tree = _tree(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, _first_line(node)
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return module, _definition(str(node.module), name)[1]
    raise KeyError(f"{module} has no {name}")


def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    text = (ast.get_docstring(node) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", r"\|")
