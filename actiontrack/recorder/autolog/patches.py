"""Functions that train, wrapped where they live, and put back.

Other patches of the same functions stay in force before and after. MLflow's own autologging keeps
the function that it has found when it was turned on, and puts that one back when it is turned off
or on again. Where it came first, what it keeps is wrapped, too, so that ours outlasts it.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Wrap", "apply", "home_of", "revert"]

#: Function of a function that trains, which returns it wrapped.
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

#: Where MLflow keeps the function that it has patched, and the patch.
_KEPT, _PATCH = "_gorilla_original_%s", "_gorilla_active_patch_%s"


@dataclass
class _Patch:
    """Ours of one attribute: what was wrapped, by what it was wrapped with.

    Attributes:
        wrapped: what was there before, by the wrapper in its place.
        inherited: whether the owner did not have the attribute itself.
    """

    wrapped: dict[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)
    inherited: bool = False


_patches: dict[tuple[Any, str], _Patch] = {}
_lock = threading.RLock()


def home_of(module: Any, path: str) -> tuple[Any, str]:
    """The object that has an attribute, and the name of it there.

    Args:
        module: an imported module.
        path: such as "train" or "Trainer.fit".
    """
    *parts, name = path.split(".")
    owner = functools.reduce(getattr, parts, module)
    return owner, name


def apply(owner: Any, name: str, wrap: Wrap) -> None:
    """Wrap a function, unless it is wrapped already."""
    with _lock:
        function = getattr(owner, name)
        patch = _patches.setdefault((owner, name), _Patch(inherited=name not in vars(owner)))
        if not patch.wrapped.keys() & set(_layers(function)):
            _put(owner, name, function, patch, wrap)
        if (kept := vars(owner).get(_KEPT % name)) is not None and not (
            patch.wrapped.keys() & set(_layers(kept))
        ):
            _put(owner, _KEPT % name, kept, patch, wrap)
            vars(owner)[_PATCH % name].is_inplace_patch = True  # put back, rather than deleted


def revert(owner: Any, name: str) -> None:
    """Put the function back. Where another patch lies on top, ours stays below, to do nothing."""
    with _lock:
        patch = _patches.get((owner, name))
        if patch is None:
            return
        for attribute in (name, _KEPT % name):
            function = vars(owner).get(attribute)
            if function not in patch.wrapped:
                continue
            before = patch.wrapped.pop(function)
            if patch.inherited and attribute == name:
                delattr(owner, name)
            else:
                setattr(owner, attribute, before)
        if not patch.wrapped:
            del _patches[owner, name]


def _put(
    owner: Any, attribute: str, function: Callable[..., Any], patch: _Patch, wrap: Wrap
) -> None:
    wrapper = wrap(function)
    patch.wrapped[wrapper] = function
    setattr(owner, attribute, wrapper)


def _layers(function: Any) -> Iterator[Any]:
    """A function and what it wraps, outermost first."""
    yield function
    while (function := getattr(function, "__wrapped__", None)) is not None:
        yield function
