"""Environment variables that actiontrack reads: the one list, from which their page is made.

Other modules read them here only: `settings.SPOOL.value()`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from actiontrack.errors import ParameterError

__all__ = [
    "AUTH",
    "CACHE_MB",
    "FORM_KEY",
    "ID_SALT",
    "IMAGES",
    "IMAGE_ROOTS",
    "MAX_BYTES",
    "MODEL",
    "REPORT",
    "SETTINGS",
    "SPOOL",
    "UPGRADE_STORE",
    "USER",
    "Setting",
]

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Setting(Generic[_Value]):
    """One environment variable.

    Attributes:
        name: of the variable.
        kind: what its text is, in words.
        parse: from the text to the value, or ValueError with the part of the text that is wrong.
        fallback: value where the variable is not set or empty.
        default: the same, in words.
        sentence: what it does.
        rule: what the text must be, for the error message.
        remedy: what to do about a text that is something else.
        secret: whether the value may be shown to nobody.
    """

    name: str
    kind: str
    parse: Callable[[str], _Value]
    fallback: _Value
    default: str
    sentence: str
    rule: str = ""
    remedy: str = ""
    secret: bool = False

    def value(self) -> _Value:
        """The value that the environment has now.

        Raises:
            ParameterError: names the variable, the rule, its text and a remedy.
        """
        text = os.environ.get(self.name, "")
        if not text:
            return self.fallback
        try:
            return self.parse(text)
        except ValueError as error:
            raise ParameterError(self.name, self.rule, str(error), self.remedy) from None


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _yes_or_no(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(text)
    return int(text)


def _mebibytes(text: str) -> int:
    try:
        return max(0, int(text))
    except ValueError:
        raise ValueError(text) from None


def _folders(text: str) -> tuple[str, ...]:
    """Absolute folders, and the word "recorded"."""
    parts = tuple(part for part in text.split(os.pathsep) if part)
    for part in parts:
        if part != "recorded" and not Path(part).is_absolute():
            raise ValueError(part)
    return parts


SPOOL: Setting[Path | None] = Setting(
    name="ACTIONTRACK_SPOOL",
    kind="folder",
    parse=Path,
    fallback=None,
    default="a folder in the user's state directory",
    sentence="Where epochs are written before they are uploaded.",
)
ID_SALT: Setting[str | None] = Setting(
    name="ACTIONTRACK_ID_SALT",
    kind="secret text",
    parse=str,
    fallback=None,
    default="ids are recorded as they are",
    sentence="Salt of the hashes that stand for ids: see [privacy](privacy.md).",
    secret=True,
)
IMAGES: Setting[str] = Setting(
    name="ACTIONTRACK_IMAGES",
    kind="`never` or `allowed`",
    parse=_one_of("never", "allowed"),
    fallback="allowed",
    default="`allowed`",
    sentence="`never` keeps images, and the folder that they are in, out of records.",
    rule="must be never or allowed",
    remedy="Choose one of these.",
)
REPORT: Setting[str] = Setting(
    name="ACTIONTRACK_REPORT",
    kind="`never` or `always`",
    parse=_one_of("never", "always"),
    fallback="always",
    default="`always`",
    sentence="`never` leaves out the pictures and the page that a finished record gets.",
    rule="must be never or always",
    remedy="Choose one of these.",
)
MAX_BYTES: Setting[int | None] = Setting(
    name="ACTIONTRACK_MAX_BYTES",
    kind="number of bytes",
    parse=_positive,
    fallback=None,
    default="half of the machine's memory",
    sentence="Memory that one reading of a record may take.",
    rule="must be a positive number of bytes",
    remedy="Write 8000000000 for 8 GB.",
)
MODEL: Setting[str] = Setting(
    name="ACTIONTRACK_MODEL",
    kind="text",
    parse=str,
    fallback="",
    default="no tag",
    sentence="Name of the model that new runs are tagged with: see [tags](ci.md#tags).",
)
AUTH: Setting[str] = Setting(
    name="ACTIONTRACK_AUTH",
    kind="`basic-auth` or `none`",
    parse=_one_of("basic-auth", "none"),
    fallback="",
    default="`basic-auth` if an `MLFLOW_AUTH_…` variable is set, else `none`",
    sentence="Whether the pages ask for MLflow's login: see [login](web.md#login).",
    rule="must be 'basic-auth' or 'none'",
    remedy="Set it to basic-auth.",
)
IMAGE_ROOTS: Setting[tuple[str, ...]] = Setting(
    name="ACTIONTRACK_IMAGE_ROOTS",
    kind="absolute folders with a colon between, or `recorded`",
    parse=_folders,
    fallback=(),
    default="none; `recorded` for `actiontrack ui` on this machine",
    sentence="Folders from which the pages may read image files; `recorded`: whichever a record "
    "names. See [images](web.md#images).",
    rule="must name absolute folders",
    remedy="Write the whole path.",
)
CACHE_MB: Setting[int] = Setting(
    name="ACTIONTRACK_CACHE_MB",
    kind="number of mebibytes",
    parse=_mebibytes,
    fallback=512,
    default="512",
    sentence="Memory of each worker of the pages for tables that were read.",
    rule="must be a number of mebibytes",
    remedy="Set it to 512.",
)
USER: Setting[str] = Setting(
    name="ACTIONTRACK_USER",
    kind="text",
    parse=str,
    fallback="",
    default='"anonymous"; your account\'s name for `actiontrack ui` on this machine',
    sentence="Name of the reviewer on a server without login.",
)

UPGRADE_STORE: Setting[bool] = Setting(
    name="ACTIONTRACK_UPGRADE_STORE",
    kind="`yes` or `no`",
    parse=_yes_or_no,
    fallback=False,
    default="`no`",
    sentence="Whether a database of an older MLflow is migrated, after which that MLflow can't "
    "read it, or refused: see [servers](servers.md#databases).",
    rule="must be yes or no",
    remedy="Choose one of these.",
)

#: Handed from the command that starts the pages to its workers, which sign forms with it.
FORM_KEY: Setting[str] = Setting(
    name="_ACTIONTRACK_FORM_KEY",
    kind="secret text",
    parse=str,
    fallback="",
    default="made at the start",
    sentence="Key that the workers of one server share.",
    secret=True,
)

#: What a user may set, in the order of their page.
SETTINGS: tuple[Setting[Any], ...] = (
    SPOOL, ID_SALT, IMAGES, REPORT, MAX_BYTES, MODEL, AUTH, IMAGE_ROOTS, CACHE_MB, USER,
    UPGRADE_STORE,
)  # fmt: skip
