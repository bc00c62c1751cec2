"""What a login allows: asked by access checks, by lists, and by `records.Records` once more."""

from typing import Protocol

__all__ = ["EDIT", "READ", "Everybody", "Permissions"]

#: The rights of MLflow's basic auth on a run.
READ, EDIT = "read", "update"


class Permissions(Protocol):
    """What the user of the present request may do."""

    def user(self) -> str | None:
        """Name of the user, or None where there is no login."""

    def audience(self) -> str:
        """For whom answers of the store may be remembered: "" if they are the same for everybody.

        Answers are filtered by `may_read_experiment` after they were remembered.
        """

    def may_use_run(self, run_id: str, right: str) -> bool:
        """Whether the user has a right, `READ` or `EDIT`, on a run. False for an unknown one."""

    def may_read_experiment(self, experiment_id: str) -> bool:
        """Whether the user may read the runs of an experiment."""


class Everybody:
    """No login: everybody may read and write, as in MLflow without basic auth."""

    def user(self) -> str | None:
        """Nobody is logged in."""
        return None

    def audience(self) -> str:
        """Everybody."""
        return ""

    def may_use_run(self, run_id: str, right: str) -> bool:  # noqa: ARG002 - the protocol's names
        """Always."""
        return True

    def may_read_experiment(self, experiment_id: str) -> bool:  # noqa: ARG002
        """Always."""
        return True
