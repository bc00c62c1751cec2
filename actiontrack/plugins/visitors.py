"""The login of visitors, for MLflow's client: MLFLOW_TRACKING_AUTH=actiontrack-visitor.

`actiontrack ui` sets that for itself; nothing else should.
"""

from typing import Any

from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider

from actiontrack.store.credentials import AUTH_NAME, VisitorAuth

__all__ = ["VisitorAuthProvider"]


class VisitorAuthProvider(RequestAuthProvider):
    """What MLflow's client finds by its name and asks for the credentials of each request."""

    def get_name(self) -> str:
        """Name of the provider."""
        return AUTH_NAME

    def get_auth(self) -> Any:
        """What writes the credentials of a request."""
        return VisitorAuth()
