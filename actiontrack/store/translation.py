"""Errors of MLflow and its stores in our own words; the only place that knows them."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from actiontrack.errors import (
    ActionTrackError,
    MissingDependencyError,
    NotFoundError,
    ParameterError,
    StoreError,
    reason_of,
)

__all__ = [
    "REFUSALS",
    "ForbiddenError",
    "UnauthenticatedError",
    "translated",
    "translated_artifacts",
]

_ERROR_OF_CODE: Mapping[str, Callable[[str], ActionTrackError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFoundError,
    "NOT_FOUND": NotFoundError,
    "ENDPOINT_NOT_FOUND": StoreError,
}
# How servers and object stores say, in place of a status of HTTP, that they do not know a user …
_UNAUTHENTICATED = frozenset({
    "401", "UNAUTHENTICATED", "UNAUTHORIZED", "CUSTOMER_UNAUTHORIZED",  # MLflow, Databricks
    "AUTHENTICATIONFAILED", "AUTHENTICATIONERROR", "INVALIDAUTHENTICATIONTOKEN",  # Azure
    "EXPIREDAUTHENTICATIONTOKEN", "AUTHENTICATIONTOKENMISSING",
    "INVALIDACCESSKEYID", "SIGNATUREDOESNOTMATCH", "EXPIREDTOKEN", "INVALIDTOKEN",  # AWS
    "MISSINGAUTHENTICATIONTOKENEXCEPTION", "UNRECOGNIZEDCLIENTEXCEPTION",
})  # fmt: skip
# … or do not admit one.
_FORBIDDEN = frozenset({
    "403", "PERMISSION_DENIED", "FORBIDDEN",
    "AUTHORIZATIONFAILED", "AUTHORIZATIONERROR", "AUTHORIZATIONPERMISSIONMISMATCH",
    "LINKEDAUTHORIZATIONFAILED", "INSUFFICIENTACCOUNTPERMISSIONS",
    "ACCESSDENIED", "ACCESSDENIEDEXCEPTION",
})  # fmt: skip
# What services say to a filter that they don't take, MLflow's first.
_REFUSED_FILTER = frozenset({
    "INVALID_PARAMETER_VALUE", "NOT_IMPLEMENTED",
    "400", "USERERROR", "VALIDATIONERROR", "BADREQUEST", "BADARGUMENT",  # Azure
    "VALIDATIONEXCEPTION",  # AWS
})  # fmt: skip
# Errors of the libraries that look for credentials on this machine and find none that work.
_NO_CREDENTIALS = frozenset({
    "ClientAuthenticationError", "NoCredentialsError", "PartialCredentialsError",
    "CredentialRetrievalError", "TokenRetrievalError", "DefaultCredentialsError", "RefreshError",
})  # fmt: skip
_IN_WORDS = (
    ("401", re.compile(r"(?i)credential configuration failed|missing authentication token")),
    ("401", re.compile(r"(?i)security token included in the request is (invalid|expired)")),
    ("401", re.compile(r"(?i)cannot configure default credentials")),
    ("403", re.compile(r"(?i)is not authorized to perform")),
)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn errors of MLflow and of the libraries below it into ours."""
    try:
        yield
    except ActionTrackError:
        raise
    except Exception as error:
        ours = _ours(what, error)
        if ours is None:
            raise
        raise ours from error


def _ours(what: str, error: Exception) -> ActionTrackError | None:
    """Our error for one of MLflow's or of a library below it; None for any other."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - comes with MLflow

    if isinstance(error, MlflowException):
        return _from_mlflow(what, error)
    if isinstance(error, RequestException):
        return _from_requests(what, error)
    if status := _status_in_words(error):
        return _refusal(what, status, reason_of(error))
    if isinstance(error, SQLAlchemyError):
        reason = str(error).splitlines()[0]
        return StoreError(f"{what}: the tracking database failed: {reason}")
    if isinstance(error, ImportError):
        return MissingDependencyError(
            f"{what}: its driver is not installed: {error}. Install it with pip, such as "
            "'psycopg[binary]' for PostgreSQL."
        )
    return _from_system(what, error) if isinstance(error, OSError) else None


def _from_requests(what: str, error: Any) -> ActionTrackError:
    """Of a request whose answer MLflow does not read: a download, or an upload."""
    if error.response is None:
        return StoreError(f"{what}: the tracking server does not answer: {error}")
    status = error.response.status_code
    if status == 404:
        return NotFoundError(f"{what}: not found on the tracking server.")
    if status in {401, 403}:
        return _refusal(what, str(status), _answer_of(error))
    return StoreError(f"{what}: the tracking server refused: {error}")


def _from_system(what: str, error: OSError) -> ActionTrackError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{what}: not found: {error.filename}.")
    return StoreError(f"{what}: {error.strerror or error}.")


@contextlib.contextmanager
def translated_artifacts(what: str) -> Iterator[None]:
    """Do the same for artifact stores, whose own error classes hold a status."""
    try:
        with translated(what):
            yield
    except ActionTrackError:
        raise
    except Exception as error:
        if _status(error) in {"404", "NoSuchKey", "NoSuchBucket"}:
            raise NotFoundError(f"{what}: not found in the artifact store.") from error
        if status := _refused_status([_status(error)]):
            raise _refusal(what, status, reason_of(error)) from error
        raise StoreError(f"{what}: the artifact store failed: {reason_of(error)}.") from error


def _status(error: Exception) -> str:
    """What a client of S3, Azure or Google says: botocore's code, or a status of HTTP."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "status_code", getattr(error, "code", "")))


class UnauthenticatedError(StoreError):
    """The server wants a login, or does not take the one that was sent."""


class ForbiddenError(StoreError):
    """The server does not allow that to this user, or does not say whether the run exists."""


#: Errors about what one user may not do, though another may.
REFUSALS = (ForbiddenError, UnauthenticatedError)


def _refusal(what: str, status: str, words: str) -> StoreError:
    """The error for a user whom the server does not know, or does not admit."""
    if status == "401":
        return UnauthenticatedError(f"{what}: {_login_wanted(words)}")
    return ForbiddenError(
        f"{what}: the tracking server refuses: {words}. Ask its administrator for the permission, "
        "or check that the id is right."
    )


def _login_wanted(words: str) -> str:
    """What to do where no login was sent, or one that is not taken."""
    if re.search("(?i)databricks", words):
        return "Databricks wants a login. Run: databricks auth login, or set DATABRICKS_TOKEN."
    return (
        "the tracking server wants a login. Set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD to yours."
    )


def _refused_status(codes: Iterable[object]) -> str:
    """Of all the codes of an answer: "401", "403", or "" for neither."""
    names = {str(code).upper() for code in codes}
    return "401" if names & _UNAUTHENTICATED else "403" if names & _FORBIDDEN else ""


def _codes_of(answer: object) -> Iterator[object]:
    """Every code in an answer as JSON: services nest them, each by another name."""
    if isinstance(answer, Mapping):
        for name, value in answer.items():
            if str(name).lower() in {"error_code", "code", "statuscode", "status", "__type"}:
                yield value
            yield from _codes_of(value)


def _status_in_words(error: BaseException) -> str:
    """The same for an error that tells it only by its words or its class."""
    if _NO_CREDENTIALS & {parent.__name__ for parent in type(error).__mro__}:
        return "401"
    text = str(error)
    return next((status for status, pattern in _IN_WORDS if pattern.search(text)), "")


def _is_refused_filter(codes: Iterable[object], message: str) -> bool:
    """Whether a search failed because the server does not understand or accept its filter."""
    if "failed with error code 400" in message:
        return True
    return bool({str(code).upper() for code in codes} & _REFUSED_FILTER)


def _answer_of(error: Any) -> str:
    """The first line of what a server answered, else of what the request says of it."""
    lines = [line.strip() for line in error.response.text.splitlines() if line.strip()]
    return str((lines or [error])[0]).rstrip(".")


def _reason(message: str) -> str:
    """Why a request failed for good, from what MLflow says after its last attempt."""
    cause = message.partition("(Caused by ")[2]
    reason = [message, *re.findall(r"""'[^']+'|"[^"]+\"""", cause)][-1].strip("'\"")
    reason = reason.rpartition(": ")[2].partition(" (")[0].rstrip(".")
    if re.fullmatch(r"too many 5\d\d error responses", reason):
        return (
            f"the tracking server fails: {reason}. Its log says why; often its database or "
            "artifact store is away or full."
        )
    return f"the tracking server does not answer: {reason}."


def _from_mlflow(what: str, error: Any) -> ActionTrackError:
    message = (str(error.message).strip() or error.error_code).splitlines()[0]
    message = message.removeprefix(f"{error.error_code}: ")
    pattern = r"failed with error code (401|403) .*Response body: '(.*?)\.?(?:'|$)"
    if refused := re.search(pattern, message):
        return _refusal(what, *refused.groups())
    codes = [error.error_code, *_codes_of(getattr(error, "json", None))]
    if status := _refused_status(codes) or _status_in_words(error):
        return _refusal(what, status, message.rstrip("."))
    if what.startswith("filter ") and _is_refused_filter(codes, message):
        return ParameterError(
            "filter",
            "must be a filter that MLflow understands",
            what.removeprefix("filter "),
            f"MLflow says: {message}",
        )
    if message.startswith("API request to"):
        return StoreError(f"{what}: {_reason(message)}")
    kind = _ERROR_OF_CODE.get(error.error_code, StoreError)
    absent = ("No such file", "does not exist", "for parameter 'run_id'")
    if any(phrase in message for phrase in absent):
        kind = NotFoundError
    return kind(f"{what}: {message.rstrip('.')}.")
