"""Reading parameters: pydantic checks every value, click reads the command line.

MLflow passes every parameter of an MLproject as text and checks only the types ``path`` and
``uri``. So each entry point describes its parameters as a frozen pydantic model and reads its
command line with `parse`. Every failure is one `actiontrack.errors.ParameterError`, which names

* the *rule*: what a value must be, such as ``must be an integer >= 1``;
* the *remedy*: what the user can type instead.

A default never contradicts what the user chose: it adapts (`Params.adapt`), and the run says so.
"""

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin

import click
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from actiontrack.errors import ActionTrackError, ParameterError
from actiontrack.store import Terminated

__all__ = [
    "Params",
    "defaults",
    "parse",
    "rule_of",
    "run_main",
    "to_strings",
    "usage",
    "validate",
]

TERMINATED = 143  # 128 + SIGTERM
_HELP = "Run with --help to see all parameters."
INTERRUPTED = 130  # 128 + SIGINT, the shell's own convention

Model = TypeVar("Model", bound="Params")

_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
_NOUNS: dict[object, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
}


class Params(BaseModel):
    """Base of all parameter models: no unknown names, no changes, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _adapted: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def adapted(self) -> frozenset[str]:
        """Names of the parameters whose default was changed to fit what the user chose."""
        return self._adapted

    def is_given(self, name: str) -> bool:
        """Whether the user chose the value of a parameter.

        The commands of MLproject pass every parameter. Where all are passed, a value that equals
        its default counts as not chosen.
        """
        fields = type(self).model_fields
        if self.model_fields_set >= fields.keys():
            return bool(getattr(self, name) != fields[name].default)
        return name in self.model_fields_set

    def adapt(self, name: str, value: object) -> None:
        """Replace a default that does not fit what the user chose.

        Called by the validators of a model, before anyone else sees the object.
        """
        self.__dict__[name] = value
        self._adapted |= {name}


def _bounds(field: FieldInfo) -> str:
    return " and ".join(
        f"{sign} {getattr(constraint, name)}"
        for name, sign in _BOUNDS
        for constraint in field.metadata
        if hasattr(constraint, name)
    )


def rule_of(field: FieldInfo) -> str:
    """Say what a field accepts.

    Args:
        field: A field of a pydantic model: text, a whole number, a number, a truth value or a
            `typing.Literal`; others carry their rule under ``json_schema_extra["rule"]``.

    Returns:
        A clause, e.g. ``must be a number >= 0 and < 1`` or ``must be one of a, b, c``.
    """
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "rule" in extra:
        return str(extra["rule"])
    if get_origin(field.annotation) is Literal:
        return f"must be one of {', '.join(map(str, get_args(field.annotation)))}"
    noun = _NOUNS.get(field.annotation, "a valid value")
    return f"must be {noun} {_bounds(field)}".rstrip()


def _text(value: object) -> str:
    """Spell a value as the command line does."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def defaults(model_class: type[BaseModel]) -> dict[str, str]:
    """Spell the default of every parameter as `MLproject` declares it, in field order."""
    return {name: _text(field.default) for name, field in model_class.model_fields.items()}


def to_strings(params: BaseModel) -> dict[str, str]:
    """Spell all parameters as the command line does, e.g. for MLflow or for a child run.

    Args:
        params: A validated model.

    Returns:
        Name to text in field order; `parse` reads it back to an equal model.
    """
    return {name: _text(value) for name, value in params}


def _unknown(model_class: type[BaseModel], name: str) -> ParameterError:
    nearest = difflib.get_close_matches(name, model_class.model_fields, n=1, cutoff=0.5)
    remedy = f"Did you mean --{nearest[0]}?" if nearest else _HELP
    return ParameterError(name, "must be the name of a parameter", f"--{name}", remedy)


def _to_parameter_error(
    model_class: type[BaseModel], error: ValidationError, values: Mapping[str, object]
) -> ParameterError:
    """Turn the first problem that pydantic reports into an error of ours, with the whole value."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        return cause
    name = str(first["loc"][0])
    if name not in model_class.model_fields:
        return _unknown(model_class, name)
    field = model_class.model_fields[name]
    if field.is_required():
        remedy = f"Pass --{name} VALUE."
    else:
        remedy = f"Leave it out for the default, {_text(field.default) or 'empty'}."
    return ParameterError(name, rule_of(field), values.get(name, first["input"]), remedy)


def validate(model_class: type[Model], values: Mapping[str, object]) -> Model:
    """Check values against a parameter model.

    Args:
        model_class: The model, e.g. `TrainParams`.
        values: Name to value; text is converted to the field's type.

    Returns:
        The frozen model, defaults filled in and adapted to the values.

    Raises:
        ParameterError: An unknown name, a missing one or a value that breaks a rule.
    """
    try:
        return model_class.model_validate(dict(values))
    except ValidationError as error:
        raise _to_parameter_error(model_class, error, values) from None


def _only_value(_: click.Context, option: click.Parameter, values: Sequence[str]) -> str | None:
    """The value of an option, which must be passed once and is not itself the name of an option."""
    name = str(option.name)
    if len(values) > 1:
        raise ParameterError(name, "must be given once", values[-1], "Remove one of the two.")
    if values and values[0].startswith("--"):
        raise _without_value(name)
    return values[0] if values else None


def _without_value(name: str) -> ParameterError:
    return ParameterError(
        name,
        "must be followed by a value",
        f"--{name}",
        f"Pass --{name} VALUE or --{name}=VALUE.",
    )


def _option(name: str, field: FieldInfo) -> click.Option:
    rule = rule_of(field).removeprefix("must be ")
    default = "required" if field.is_required() else f"default: {_text(field.default) or 'empty'}"
    return click.Option(
        [f"--{name}"],
        metavar="VALUE",
        multiple=True,  # click itself would take the last of several
        callback=_only_value,
        help=f"{field.description} ({rule}) [{default}]",
    )


def _command(model_class: type[BaseModel]) -> click.Command:
    """The command line of a model: one option per field, each with a value."""
    return click.Command(
        Path(sys.argv[0]).name,
        params=[_option(name, field) for name, field in model_class.model_fields.items()],
        help=(model_class.__doc__ or model_class.__name__).splitlines()[0],
        options_metavar="[--NAME VALUE | --NAME=VALUE]...",
        context_settings={
            "allow_extra_args": True,
            "help_option_names": ["-h", "--help"],
            "max_content_width": 120,
            "token_normalize_func": lambda name: name.replace("-", "_"),
        },
    )


def usage(model_class: type[BaseModel]) -> str:
    """The help text: what the entry point does, then every parameter with rule and default.

    Args:
        model_class: The model; the first line of its docstring says what the entry point does.
    """
    command = _command(model_class)
    return command.get_help(
        click.Context(command, info_name=command.name, **command.context_settings)
    )


def _to_usage_error(model_class: type[BaseModel], error: click.UsageError) -> ParameterError:
    """Turn an error of click into one of ours."""
    name = str(getattr(error, "option_name", "")).lstrip("-")
    if isinstance(error, click.NoSuchOption):
        return _unknown(model_class, name)
    if name in model_class.model_fields:
        return _without_value(name)
    return ParameterError("command line", "must be readable", error.format_message(), _HELP)


def parse(model_class: type[Model], argv: Sequence[str]) -> Model:
    """Read ``--name value`` and ``--name=value`` pairs into a parameter model.

    Names may be written with ``-`` or ``_`` and never abbreviated. ``--help`` prints `usage` and
    leaves with exit code 0. A default that was adapted is reported on stderr.

    Args:
        model_class: The model, e.g. `TrainParams`.
        argv: The words of the command line without the program's name.

    Returns:
        The frozen model.

    Raises:
        ParameterError: An unknown, repeated or valueless name, a word without a name or a value
            that breaks a rule.
        SystemExit: With code 0, after ``--help`` or ``-h``.
    """
    command = _command(model_class)
    try:
        context = command.make_context(command.name, list(argv))
    except click.exceptions.Exit as end:
        raise SystemExit(end.exit_code) from None
    except click.UsageError as error:
        raise _to_usage_error(model_class, error) from None
    if context.args:
        rule, remedy = "must be pairs of --name value", "Put --NAME before the value."
        raise ParameterError("command line", rule, context.args[0], remedy)
    values = {name: value for name, value in context.params.items() if value is not None}
    params = validate(model_class, values)
    for name in sorted(params.adapted):
        print(
            f"{name}: {_text(getattr(params, name))} instead of the default "
            f"{defaults(model_class)[name]}, to fit the other parameters",
            file=sys.stderr,
        )
    return params


def run_main(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run an entry point; an expected failure is one line on stderr, not a traceback.

    Args:
        main: Takes the words of the command line and returns an exit code, None meaning 0.
        argv: The words; None means those of this process.

    Returns:
        The exit code: that of `main`, of the error (see `actiontrack.errors`), 130 after Ctrl-C
        or 143 after SIGTERM. Other exceptions pass through.
    """
    try:
        return main(list(sys.argv[1:] if argv is None else argv)) or 0
    except ActionTrackError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Terminated:
        print("terminated: what was recorded is safe", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
