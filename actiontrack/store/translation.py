"""Errors of MLflow and its stores in our own words; the only place that knows them."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
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
    "ForbiddenError",
    "translated",
    "translated_artifacts",
]

_ERROR_OF_CODE: Mapping[str, Callable[[str], ActionTrackError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFoundError,
    "NOT_FOUND": NotFoundError,
    "ENDPOINT_NOT_FOUND": StoreError,
    "PERMISSION_DENIED": StoreError,
    "UNAUTHENTICATED": StoreError,
}


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn errors of MLflow and of the libraries below it into ours."""
    import requests  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - comes with MLflow

    try:
        yield
    except MlflowException as error:
        raise _from_mlflow(what, error) from error
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{what}: the tracking database failed: {reason}") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 404:
            raise NotFoundError(f"{what}: not found on the tracking server.") from error
        raise StoreError(f"{what}: the tracking server refused: {error}") from error
    except requests.RequestException as error:
        raise StoreError(f"{what}: the tracking server does not answer: {error}") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{what}: its driver is not installed: {error}. Install it with pip, such as "
            "'psycopg[binary]' for PostgreSQL."
        ) from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"{what}: not found: {error.filename}.") from error
        raise StoreError(f"{what}: {error.strerror or error}.") from error


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
        raise StoreError(f"{what}: the artifact store failed: {reason_of(error)}.") from error


def _status(error: Exception) -> str:
    """What a client of S3, Azure or Google says: botocore's code, or a status of HTTP."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "status_code", getattr(error, "code", "")))


def _refusal(status: str, words: str) -> str:
    """The message for a user whom the server does not know, or does not admit."""
    if status == "401":
        return (
            "the tracking server wants a login. Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to yours."
        )
    return (
        f"the tracking server refuses: {words}. Ask its administrator for the permission, or "
        "check that the id is right."
    )


class ForbiddenError(StoreError):
    """The server does not allow that to this user, or does not say whether the run exists."""


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
    refused = re.search(r"failed with error code (401|403) .*Response body: '(.*?)\.?'", message)
    if refused:
        return ForbiddenError(f"{what}: {_refusal(*refused.groups())}")
    if message.startswith("API request to"):
        return StoreError(f"{what}: {_reason(message)}")
    if error.error_code == "INVALID_PARAMETER_VALUE" and what.startswith("filter "):
        return ParameterError(
            "filter",
            "must be a filter that MLflow understands",
            what.removeprefix("filter "),
            f"MLflow says: {message}",
        )
    kind = _ERROR_OF_CODE.get(error.error_code, StoreError)
    absent = ("No such file", "does not exist", "for parameter 'run_id'")
    if any(phrase in message for phrase in absent):
        kind = NotFoundError
    return kind(f"{what}: {message.rstrip('.')}.")
