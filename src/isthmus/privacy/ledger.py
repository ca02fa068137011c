"""The privacy ledger of a population: what tasks were allowed, what they have spent, and a stop before either is passed.

Within a task, zCDP adds up over rounds, and a device counts as taking part in every round until its limit of participations.
Over tasks, epsilons and deltas add up (basic composition), so a task's whole allowance is set aside when it is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.base.errors import PolicyError
from isthmus.privacy.accountant import epsilon_of


@dataclass(frozen=True, slots=True)
class Allowance:
    """(epsilon, delta) for each device, over everything it is meant for."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < float("inf") and 0 < self.delta < 1):
            raise ValueError("epsilon above 0 and finite, delta between 0 and 1")


@dataclass(frozen=True, slots=True)
class Charge:
    """Rounds of one kind: each costs a device `rho` (zCDP), in at most `most` of them a device takes part."""

    kind: str
    rho: float
    most: int
    rounds: int = 0

    @property
    def spent(self) -> float:
        """zCDP so far of a device that took part whenever it could."""
        return min(self.rounds, self.most) * self.rho


@dataclass(frozen=True, slots=True)
class TaskAccount:
    """One task: its allowance and its charges, the row that a store keeps."""

    task: str
    allowance: Allowance
    charges: tuple[Charge, ...] = ()

    @property
    def epsilon(self) -> float:
        """Epsilon spent so far, at the delta of the allowance."""
        return epsilon_of(sum(charge.spent for charge in self.charges), self.allowance.delta)

    def after(self, kind: str, rho: float, most: int) -> TaskAccount:
        """The account once one more round of that kind has been opened. Raises PolicyError(privacy_spent)."""
        known = {charge.kind: charge for charge in self.charges}
        before = known.get(kind, Charge(kind, rho, most))
        # A task cannot change its terms; if it did, the dearer ones count for all its rounds.
        known[kind] = Charge(kind, max(before.rho, rho), max(before.most, most), before.rounds + 1)
        charges = tuple(known.values())
        after = TaskAccount(self.task, self.allowance, charges)
        if after.epsilon > self.allowance.epsilon * (1 + 1e-9):
            raise _spent(self.task, self.epsilon, self.allowance.epsilon)
        return after


class PrivacyLedger:
    """All tasks of one population under one allowance. Tasks that have ended stay: what is spent stays spent."""

    def __init__(self, population: str, allowance: Allowance, tasks: tuple[TaskAccount, ...] = ()) -> None:
        self.population = population
        self.allowance = allowance
        self._tasks = {account.task: account for account in tasks}

    @property
    def tasks(self) -> tuple[TaskAccount, ...]:
        """The rows to keep."""
        return tuple(self._tasks.values())

    @property
    def set_aside(self) -> tuple[float, float]:
        """Epsilon and delta of all tasks admitted so far, added up."""
        allowed = [account.allowance for account in self._tasks.values()]
        return sum(one.epsilon for one in allowed), sum(one.delta for one in allowed)

    def admit(self, task: str, allowance: Allowance) -> TaskAccount:
        """Set a task's allowance aside; once more with the same allowance changes nothing. Raises PolicyError(privacy_spent)."""
        known = self._tasks.get(task)
        if known is not None and known.allowance == allowance:
            return known
        epsilon, delta = self.set_aside
        over = epsilon + allowance.epsilon > self.allowance.epsilon * (1 + 1e-9)
        if known is not None or over or delta + allowance.delta > self.allowance.delta * (1 + 1e-9):
            raise _spent(self.population, epsilon, self.allowance.epsilon)
        account = self._tasks[task] = TaskAccount(task, allowance)
        return account

    def charge(self, task: str, kind: str, rho: float, most: int) -> TaskAccount:
        """Count one more round before it is opened. Raises PolicyError(privacy_spent), and then nothing is counted."""
        account = self._tasks[task] = self._tasks[task].after(kind, rho, most)
        return account


def _spent(what: str, spent: float, allowed: float) -> PolicyError:
    return PolicyError("privacy_spent", what=what, spent=f"{spent:.3g}", allowed=f"{allowed:.3g}")
