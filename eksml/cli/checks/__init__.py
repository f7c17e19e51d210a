"""What ``eksml doctor`` looks at. Nothing is started or left, but for the storage's folder."""

from eksml.cli.checks.finding import Answer, Check, Finding, look_at_all
from eksml.cli.checks.installation import INSTALLATION
from eksml.cli.checks.machine import MACHINE
from eksml.cli.checks.services import reachable

__all__ = ["Answer", "Check", "Finding", "all_checks", "look_at_all"]


def all_checks(storage: str | None) -> tuple[Check, ...]:
    """Every check, in the order in which a person reads them."""
    return (*INSTALLATION, *MACHINE, *reachable(storage))
