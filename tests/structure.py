"""Fails where the structure of the code breaks its limits: `python tests/structure.py`.

- A file has at most 450 lines, a function of the package or the project at most 40.
- Modules import each other in no cycle, and nothing imports the face of its own package.
- The top of the package holds ten packages at most, and the public words.
- Under one stored name in a hundred says nothing of what it holds.
- One module alone touches MLflow's server: import-linter knows no parts of other packages.

Which layer may import which is checked by import-linter, see pyproject.toml.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("actiontrack", "projects")
FOLDERS = (*SOURCES, "tests", "benchmarks", "examples", "docs")

MOST_FILE_LINES = 450
MOST_FUNCTION_LINES = 40
MOST_PACKAGES = 10
#: Modules at the top of the package: what users import, the version, and the settings.
WORDS = {
    *("__init__", "_version", "errors", "history", "scores", "testing", "settings"),
    *("demo", "ensembles", "exports", "label_errors", "verdicts"),
}
#: Names that would fit any value.
VAGUE = {
    *("all_", "asked", "at", "each", "found", "given", "here", "it", "kept", "known", "now"),
    *("other", "own", "place", "said", "seen", "shown", "there", "told", "wanted"),
}
MOST_VAGUE = 0.01
#: The inside of MLflow's server, and who may touch it.
SERVER, INSIDE = "mlflow.server", "actiontrack/web/inside.py"


def problems(root: Path = ROOT) -> list[str]:
    """Everything that breaks a limit below a root, one line each."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in python_files(root)}
    sources = {
        path: tree for path, tree in trees.items() if path.relative_to(root).parts[0] in SOURCES
    }
    return [
        *long_files(trees, root),
        *long_functions(sources, root),
        *cycles_and_faces(sources, root),
        *crowded_top(root / "actiontrack"),
        *vague_names(sources),
        *server_users(sources, root),
    ]


def python_files(root: Path) -> list[Path]:
    """Every Python file of the folders that people write in."""
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def long_files(trees: dict[Path, ast.Module], root: Path) -> Iterator[str]:
    """Files with too many lines."""
    for path in trees:
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        if n_lines > MOST_FILE_LINES:
            yield f"{path.relative_to(root)}: {n_lines} lines, at most {MOST_FILE_LINES}"


def long_functions(trees: dict[Path, ast.Module], root: Path) -> Iterator[str]:
    """Functions whose statements, without signature and docstring, take too many lines."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                n_lines = int(node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if n_lines > MOST_FUNCTION_LINES:
                    where = f"{path.relative_to(root)}:{node.lineno}"
                    yield f"{where}: {node.name} has {n_lines} lines, at most {MOST_FUNCTION_LINES}"


def cycles_and_faces(trees: dict[Path, ast.Module], root: Path) -> Iterator[str]:
    """Cycles among modules, and imports of the package that a module itself is in."""
    modules = {_module(path, root): path for path in trees}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        graph[module] = set()
        for imported, line in _imports(trees[path], set(modules)):
            if imported == package != module and "." in package and path.name != "__main__.py":
                yield f"{path.relative_to(root)}:{line}: imports its own package {package}"
            if imported != module:
                graph[module].add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"modules import each other: {' -> '.join(error.args[1])}"


def _module(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.Module, modules: set[str]) -> Iterator[tuple[str, int]]:
    """Modules of ours that a module imports while it is imported itself, with the lines."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                if inner in modules:
                    yield inner, node.lineno
                elif node.module in modules:
                    yield node.module, node.lineno


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import: not those of functions, nor those for type checkers only."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _statements([*node.body, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from _statements(node.body)


def crowded_top(package: Path) -> Iterator[str]:
    """Too many packages at the top, or a module there that is no public word."""
    packages = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    if len(packages) > MOST_PACKAGES:
        yield f"{package.name}: {len(packages)} packages, at most {MOST_PACKAGES}: {packages}"
    strangers = sorted({path.stem for path in package.glob("*.py")} - WORDS)
    if strangers:
        yield f"{package.name}: modules that belong in a package: {', '.join(strangers)}"


def stored_names(tree: ast.Module) -> Iterator[str]:
    """Names that are bound to values: variables, arguments, attributes of self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr).lstrip("_")
        elif isinstance(node, ast.arg):
            yield node.arg.lstrip("_")


def vague_names(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Whether too large a share of the stored names is vague."""
    names = [name for tree in trees.values() for name in stored_names(tree)]
    vague = [name for name in names if name in VAGUE]
    if len(vague) > MOST_VAGUE * len(names):
        most = sorted(set(vague), key=vague.count, reverse=True)[:5]
        share = f"{len(vague)} of {len(names)} stored names are vague"
        yield f"{share}, at most {MOST_VAGUE:.0%}: {', '.join(most)}, ..."


def server_users(trees: dict[Path, ast.Module], root: Path) -> Iterator[str]:
    """Modules beside `INSIDE` that import MLflow's server, by a statement or by its name."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]
            touches = any(f"{name}.".startswith(f"{SERVER}.") for name in names)
            if touches and path != root / INSIDE:
                where = f"{path.relative_to(root)}:{node.lineno}"
                yield f"{where}: touches {SERVER}, which is for {INSIDE} alone"


if __name__ == "__main__":
    lines = problems()
    print("\n".join(lines) or "structure: within all limits")
    sys.exit(bool(lines))
