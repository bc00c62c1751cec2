"""Fails where a public name is missing from the site: `python tests/documented.py`.

Every module that users import from has a page in the API reference. A name in its `__all__` needs a
docstring; a constant needs a comment that begins with "#:", or a docstring below it.
"""

import ast
import importlib
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from actiontrack.settings import Setting  # noqa: E402 - the folder is on the path now

os.environ.setdefault("KERAS_BACKEND", "torch")

#: What `import actiontrack` offers is documented where it is defined.
TOP = "actiontrack"


def problems(modules: list[str]) -> list[str]:
    """Public names without documentation, one line each."""
    pages = {name: importlib.import_module(name) for name in modules}
    lines = [
        f"{name}.{member}: no docstring"
        for name, module in pages.items()
        for member in module.__all__
        if not is_documented(module, member)
    ]
    offered = {member for module in pages.values() for member in module.__all__}
    missing = sorted(set(importlib.import_module(TOP).__all__) - offered)
    return [*lines, *(f"{TOP}.{name}: on no page of the reference" for name in missing)]


def is_documented(module: ModuleType, name: str) -> bool:
    """Whether a name of a module says what it is."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return bool(inspect.getdoc(value))
    if isinstance(value, Setting):
        return bool(value.sentence)
    return _has_comment(module, name)


def _has_comment(module: ModuleType, name: str) -> bool:
    """Whether a constant has a comment or a docstring where it is assigned."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    lines = text.splitlines()
    body = ast.parse(text).body
    for number, node in enumerate(body):
        if isinstance(node, ast.ImportFrom) and node.module:
            if name in {alias.asname or alias.name for alias in node.names}:
                return _has_comment(importlib.import_module(node.module), name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name in {target.id for target in targets if isinstance(target, ast.Name)}:
                below = body[number + 1] if number + 1 < len(body) else None
                literal = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                return literal or "#" in lines[node.lineno - 2][:1] or "#" in lines[node.lineno - 1]
    return False


if __name__ == "__main__":
    from hooks import public_modules

    undocumented = problems(public_modules())
    print("\n".join(undocumented) or "documented: every public name")
    sys.exit(bool(undocumented))
