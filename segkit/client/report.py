"""Report: what a stream did, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from segkit.video.meters import Summary

__all__ = ["DROPS", "STAGES", "Report"]

STAGES = ("decode", "send", "server", "draw", "write")
# Why a frame of a live source was not shown.
DROPS = {
    "replaced": "a newer one came before it could be sent",
    "stale": "it was too old to be sent",
    "late": "its answer did not come in time",
    "failed": "the server failed it",
    "unshown": "a newer picture was ready before it could be written",
    "unfinished": "the stream was ended before its answer",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a stream did.

    Args:
        frames: Frames written.
        captured: Frames that the source gave. What was not written is in `drops`.
        seconds: From the first frame's decoding to the last one's writing.
        latency_ms: From the start of a frame's sending to its mask.
        age_ms: From a frame's capture to its writing.
        stage_ms: Stage of STAGES -> what a frame takes there. "server" is the time a request is
            under way: network, waiting and model. Stages overlap, so they add up to more than a
            frame takes.
        drops: Cause of DROPS -> frames.
        retries: Requests sent again because the server was away.
        window: Requests that were allowed under way at the end.
        sent_bytes: Of a request, on average.
        received_bytes: Of a reply, on average.
    """

    frames: int = 0
    captured: int = 0
    seconds: float = 0.0
    latency_ms: Summary = field(default_factory=Summary)
    age_ms: Summary = field(default_factory=Summary)
    stage_ms: Mapping[str, Summary] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    window: int = 0
    sent_bytes: float = 0.0
    received_bytes: float = 0.0

    @property
    def fps(self) -> float:
        """Frames written a second, on the whole."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def dropped(self) -> int:
        """Frames that were not written."""
        return sum(self.drops.values())

    def lines(self) -> list[str]:
        """The same for people."""
        means = " | ".join(f"{stage} {ms.mean:.3g}" for stage, ms in self.stage_ms.items())
        retries = f"   {self.retries:,} requests sent again" if self.retries else ""
        lines = [
            f"{self.frames:,} frames   {self.fps:.3g} fps   p50 {self.latency_ms.p50:.3g} ms   "
            f"p99 {self.latency_ms.p99:.3g} ms   {means} ms{retries}"
        ]
        rows = {**self.stage_ms, "latency": self.latency_ms, "age": self.age_ms}
        lines.append("          " + "".join(f"{name:>9}" for name in ("p50", "p90", "p99")) + " ms")
        lines += [
            f"  {name:<8}" + "".join(f"{x:9.3g}" for x in (ms.p50, ms.p90, ms.p99))
            for name, ms in rows.items()
        ]
        if self.sent_bytes:
            lines.append(
                f"a frame: {self.sent_bytes / 1e3:,.1f} KB up, {self.received_bytes / 1e3:,.1f} KB "
                f"down; at most {self.window} requests under way"
            )
        if self.dropped:
            lines.append(f"left out {self.dropped:,} of {self.captured:,} frames")
            lines += [f"  {count:>6,}  {DROPS[cause]}" for cause, count in self.drops.items()]
        return lines

    def to_json(self) -> dict[str, Any]:
        """The same as what json.dumps takes."""
        return {**asdict(self), "fps": self.fps}
