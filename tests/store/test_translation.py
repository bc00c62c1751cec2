"""Errors of servers, services and their libraries become ours, with the exit code of theirs."""

import json

import pytest
import requests
from helpers import message
from mlflow.exceptions import ErrorCode, MlflowException, RestException

from actiontrack.errors import NotFoundError, StoreError
from actiontrack.store.translation import (
    ForbiddenError,
    UnauthenticatedError,
    translated,
    translated_artifacts,
)

LOGIN = (
    "run 'a': the tracking server wants a login. Set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD to yours."
)


def plain(status, body):
    """As MLflow's client tells an answer that is no JSON."""
    name = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[status]
    return MlflowException(
        f"API request to endpoint /api/2.0/mlflow/runs/get failed with error code {status} != 200. "
        f"Response body: '{body}'",
        error_code=ErrorCode.Value(name),
    )


def answered(status, body=""):
    """As of a download that a server refuses."""
    response = requests.Response()
    response.status_code, response._content = status, body.encode()
    return requests.HTTPError(f"{status} Client Error for url: http://host/x", response=response)


class NoCredentialsError(Exception):
    """By the name that botocore gives it."""


class ClientAuthenticationError(Exception):
    """By the name that Azure's libraries give it."""


class ClientError(Exception):
    """As of botocore."""

    def __init__(self, code):
        super().__init__(f"An error occurred ({code}) when calling the GetObject operation")
        self.response = {"Error": {"Code": code}}


class HttpResponseError(Exception):
    """As of Azure and, with `code`, of Google."""

    def __init__(self, **fields):
        super().__init__("the service says no")
        vars(self).update(fields)


UNAUTHENTICATED = {
    "MLflow's login": plain(401, "You are not authenticated. Please see the documentation."),
    "a proxy's page": plain(401, "<html>\n<head>401</head></html>"),
    "UNAUTHENTICATED": RestException({"error_code": "UNAUTHENTICATED", "message": "who?"}),
    "Databricks' code": RestException({"error_code": "CUSTOMER_UNAUTHORIZED", "message": "who?"}),
    "a number": RestException({"error_code": 401, "message": "who?"}),
    "a code that MLflow does not know": RestException({"error_code": "UNAUTHORIZED"}),
    "Azure's token": RestException({"error": {"code": "InvalidAuthenticationToken"}}),
    "Azure's status": RestException({"error": {"code": "UserError"}, "statusCode": 401}),
    "SageMaker's gateway": RestException({"message": "Missing Authentication Token"}),
    "a download": answered(401, "log in"),
    "AWS without keys": NoCredentialsError("Unable to locate credentials"),
    "Azure without a login": ClientAuthenticationError("DefaultAzureCredential failed"),
}
FORBIDDEN = {
    "MLflow's login": plain(403, "Permission denied"),
    "a proxy's page": plain(403, "<html>\n<head>403</head></html>"),
    "PERMISSION_DENIED": RestException({"error_code": "PERMISSION_DENIED", "message": "no"}),
    "Azure's role": RestException({"error": {"code": "AuthorizationFailed", "message": "no"}}),
    "Azure's inner code": RestException(
        {"error": {"code": "UserError", "innerError": {"code": "Forbidden"}}}
    ),
    "SageMaker's role": RestException(
        {"Message": "User: arn:aws:iam::1:user/a is not authorized to perform: sagemaker-mlflow:x"}
    ),
    "a download": answered(403, "Permission denied"),
}
ARTIFACTS = (
    (UnauthenticatedError, ClientError("InvalidAccessKeyId")),
    (UnauthenticatedError, ClientError("ExpiredToken")),
    (UnauthenticatedError, HttpResponseError(status_code=401)),
    (ForbiddenError, ClientError("AccessDenied")),
    (ForbiddenError, ClientError("403")),
    (ForbiddenError, HttpResponseError(status_code=403)),
    (ForbiddenError, HttpResponseError(code=403)),
    (NotFoundError, ClientError("NoSuchKey")),
)


@pytest.mark.parametrize("case", UNAUTHENTICATED)
@pytest.mark.parametrize("translate", [translated, translated_artifacts])
def test_whoever_the_server_does_not_know_is_asked_to_log_in(case, translate):
    with pytest.raises(UnauthenticatedError, match=message(LOGIN)), translate("run 'a'"):
        raise UNAUTHENTICATED[case]


@pytest.mark.parametrize("case", FORBIDDEN)
@pytest.mark.parametrize("translate", [translated, translated_artifacts])
def test_whoever_may_not_is_told_so(case, translate):
    text = r"^run 'a': .* refuses: .*\. Ask its administrator"
    with pytest.raises(ForbiddenError, match=text), translate("run 'a'"):
        raise FORBIDDEN[case]


@pytest.mark.parametrize(("expected", "error"), ARTIFACTS, ids=lambda value: str(vars(value))[:60])
def test_object_stores_tell_the_same_in_their_own_codes(expected, error):
    with pytest.raises(expected), translated_artifacts("artifact 'x'"):
        raise error


def test_databricks_without_a_profile_says_how_to_log_in():
    error = MlflowException("Reading Databricks credential configuration failed with MLflow …")
    text = "experiments: Databricks wants a login. Run: databricks auth login, or set "
    text = message(f"{text}DATABRICKS_TOKEN.")
    with pytest.raises(UnauthenticatedError, match=text), translated("experiments"):
        raise error


def test_what_the_server_said_is_in_the_message():
    text = (
        "run 'a': the tracking server refuses: Permission denied. Ask its administrator for the "
        "permission, or check that the id is right."
    )
    for error in (plain(403, "Permission denied"), answered(403, "Permission denied.\n")):
        with pytest.raises(ForbiddenError, match=message(text)), translated("run 'a'"):
            raise error


@pytest.mark.parametrize("body", ["", json.dumps({"error_code": "INTERNAL_ERROR"})])
def test_a_failure_of_the_server_is_no_refusal(body):
    with pytest.raises(StoreError) as caught, translated_artifacts("artifact 'x'"):
        raise answered(500, body)
    assert type(caught.value) is StoreError


def test_both_exit_as_failures_of_the_store():
    assert {UnauthenticatedError.exit_code, ForbiddenError.exit_code} == {StoreError.exit_code}


def test_an_error_that_is_nobodys_refusal_goes_through():
    with pytest.raises(ZeroDivisionError), translated("run 'a'"):
        raise ZeroDivisionError
