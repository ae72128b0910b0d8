"""rollout() and rollback(): the order of the steps, and the way back from each.

A label can be given to an available version alone, and a version may go only when no label leads to
it. So a version is loaded, waited for and checked; then the label moves, then the file changes,
then old versions go. Each step is a reload of the whole configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from segkit.evaluation.proof import Proof
from segkit.serving.rollout.history import Action, Record
from segkit.serving.rollout.place import Place, Serving
from segkit.serving.rollout.waiting import Waiting
from segkit.serving.rollout.work import Work

__all__ = ["Checks", "Outcome", "rollback", "rollout"]


class Checks(Protocol):
    """What a version has to pass. Whatever is raised stops the roll-out."""

    def before_loading(self, serving: int | None) -> None:
        """Checks what can be known of it before the server touches it.

        Args:
            serving: The version that serves now; None: there is none to hold it to.
        """

    def after_loading(self, serving: int | None) -> Proof | None:
        """Checks it as it answers; gives what was measured."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done.

    Args:
        action: What was asked for.
        version: The version that it was about.
        before: The version that was stable before.
        served: What is served now.
        changed: False where all was so already.
        proof: What was measured.
    """

    action: Action
    version: int
    before: int | None
    served: Serving
    changed: bool
    proof: Proof | None = None


def rollout(
    place: Place,
    version: int,
    checks: Checks,
    *,
    canary: bool = False,
    drop_old: bool = False,
    undo: str,
    waiting: Waiting,
) -> Outcome:
    """Brings a version into service, or leaves all as it was. Within `one_at_a_time`.

    Args:
        place: Where.
        version: The version.
        checks: What it has to pass.
        canary: Give it the label `canary`, and leave `stable` where it is.
        drop_old: Unload every version that no label names any more.
        undo: The command that undoes it, for messages.
        waiting: How long to be patient.

    Raises:
        SegkitError: It was not brought into service; the message says what serves now.
    """
    work = Work(place, undo=undo, waiting=waiting)
    found = work.found
    action: Action = "canary" if canary else "rollout"
    work.check_may_begin(version, canary=canary)
    if version == found.stable or (canary and version == found.canary):
        waiting.say(f"version {version} of '{place.model}' is there already: {found}")
        work.complete()
        served = work.drop(found, found.versions if drop_old else set())
        return Outcome(
            action=action, version=version, before=found.stable, served=served, changed=False
        )
    serving = found.stable
    if serving is None:  # then the newest answers; but the new one is not held to itself
        serving = max(found.versions - {version}, default=None)
    waiting.say(f"'{place.model}' at {place.control.server}: {found}")
    checks.before_loading(serving)
    with work.attempt(Record(action=action, version=version, before=serving)):
        loaded = work.load(version, found.label(stable=serving))
        proof = checks.after_loading(serving)
        if canary:
            served = loaded.label(canary=version)
        else:
            others = None if found.canary == version else found.canary
            served = loaded.label(stable=version, canary=others)
        work.move(served)
    work.history.finish(**_measured(proof))
    served = work.drop(served, served.versions if drop_old else set())
    if not canary and max(served.versions) > version:
        waiting.say(
            f"note: version {max(served.versions)} is newer, and answers whoever asks for no "
            "version or label; --drop_old unloads it"
        )
    return Outcome(
        action=action, version=version, before=serving, served=served, changed=True, proof=proof
    )


def rollback(place: Place, *, to: int | None = None, undo: str, waiting: Waiting) -> Outcome:
    """Undoes the last roll-out, or makes any version stable. Within `one_at_a_time`.

    A canary is taken back first, and then nothing else is done. What is newer than the version gone
    back to is unloaded unless it has a label: it would answer whoever asks for no version.

    Args:
        place: Where.
        to: The version to make stable; None: the one that was before.
        undo: The command itself, for messages.
        waiting: How long to be patient.

    Raises:
        ConfigError: It is not known what was before.
        SegkitError: It cannot be done; the message says what serves now.
    """
    work = Work(place, undo=undo, waiting=waiting)
    found, interrupted = work.found, work.interrupted
    if interrupted is not None and interrupted.action != "rollback" and to is None:
        return Outcome(
            action="rollback",
            version=interrupted.version,
            before=found.stable,
            served=work.undo_interrupted(interrupted),
            changed=True,
        )
    target = work.target() if to is None else to
    gone = {found.canary} if found.canary is not None else set()
    if interrupted is not None:
        gone |= {interrupted.version}
    if to is not None or found.canary is None:
        gone |= {number for number in found.versions if number > target}
    gone -= {target}
    wanted = found.add(target).label(stable=target, canary=None)
    if interrupted is None and wanted.remove(gone) == found:
        waiting.say(f"there is nothing to undo: {found}{work.since()}")
        return Outcome(
            action="rollback", version=target, before=found.stable, served=found, changed=False
        )
    waiting.say(f"'{place.model}' at {place.control.server}: {found}")
    with work.attempt(Record(action="rollback", version=target, before=found.stable)):
        work.load(target, found)
        work.move(wanted)
    served = work.drop(wanted, gone)
    work.history.finish()
    return Outcome(
        action="rollback", version=target, before=found.stable, served=served, changed=True
    )


def _measured(proof: Proof | None) -> dict[str, Any]:
    if proof is None:
        return {}
    record = proof.agreement.to_json()
    mean_iou = record["mean_iou"]
    return {"agreement": record["agreement"], "mean_iou": mean_iou and tuple(mean_iou)}
