"""Secrets stay out of messages, logs, reports and tags.

Addresses of tracking servers and databases may hold a password, and errors of what stands below us
repeat them. Every error of `actiontrack.errors` and every line that actiontrack logs goes through
`redact`; what prints an address calls it itself.

>>> redact("no answer from http://ada:secret@host:5000/x?password=secret&y=1")
'no answer from http://ada:***@host:5000/x?password=***&y=1'
"""

import logging
import os
import re

__all__ = ["RedactingFilter", "redact"]

_SHOWN = "***"
_USER_INFO = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s'\"]*)(?=@)")
_NAMED = re.compile(
    r"(?i)\b([a-z0-9_-]{0,32}(?:password|passwd|secret|api_?key|access_?key|signature)"
    r"(?:[_-](?:id|key))?|(?:[a-z0-9]{1,16}[_-]){0,4}(?:pwd|token|sig))"
    r"(\s{0,4}=\s{0,4}['\"]?|%3D)([^&\s'\",;)]+)"
)
# What MLflow, its stores and we take secrets from.
_VARIABLES = (
    "ACTIONTRACK_ID_SALT",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABRICKS_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)
_SHORTEST = 8  # stars for a word such as "test" would hide half of a text, and tell the secret


def redact(text: str) -> str:
    """A text with stars for passwords of addresses, options named like secrets, and secrets.

    Secrets are those of the environment, such as AWS_SECRET_ACCESS_KEY.
    """
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, _SHOWN)
    if "://" in text:
        text = _USER_INFO.sub(rf"\1:{_SHOWN}", text)
    return _NAMED.sub(rf"\1\2{_SHOWN}", text) if "=" in text or "%3D" in text else text


class RedactingFilter(logging.Filter):
    """Redacts what a logger says, tracebacks with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything through, without secrets."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True
