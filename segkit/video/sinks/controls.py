"""Controls: what a viewer may change while a stream runs. Shared by the window and the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from segkit.errors import ConfigError

__all__ = ["Controls", "Settings"]

HOLD_SECONDS = 0.03  # between two looks at the controls while the stream is paused
OPACITY_STEP, OPACITY_STRIDE = 0.1, 0.25  # of less and more; of going round


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One state of the controls.

    Args:
        opacity: Share of the class colours in the picture, 0 to 1.
        effect: Name of the drawing.
        legend: Whether a panel names the colours.
        paused: Whether the stream stands still.
        recording: Whether the pictures are written to a file.
    """

    opacity: float = 0.5
    effect: str = "overlay"
    legend: bool = True
    paused: bool = False
    recording: bool = False


FIELDS = tuple(field.name for field in fields(Settings))


class Controls:
    """The settings, and requests for a snapshot and for the end. Threads may share it.

    Args:
        settings: Where they stand at first.
        effects: Names that may be chosen.
        can_record: Whether there is anything that records.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        effects: Sequence[str] = ("overlay",),
        can_record: bool = False,
    ) -> None:
        self.effects = tuple(effects)
        self.can_record = can_record
        self._settings = Settings(effect=self.effects[0])
        self._lock = threading.RLock()
        self._snapshot = False
        self._quit = threading.Event()
        if settings is not None:
            self._settings = self._checked(settings)

    @property
    def settings(self) -> Settings:
        """The settings as they are now, all of one moment."""
        return self._settings

    @property
    def quitting(self) -> bool:
        """Whether a viewer asked for the end."""
        return self._quit.is_set()

    def change(self, **changes: Any) -> Settings:
        """Sets the settings of these names and leaves the others.

        Raises:
            ConfigError: There is no such setting, or it cannot have that value.
        """
        with self._lock:
            try:
                settings = replace(self._settings, **changes)
            except TypeError as err:
                unknown = ", ".join(sorted(changes.keys() - set(FIELDS)))
                raise ConfigError(
                    f"there is no control of the name {unknown}",
                    expected=", ".join(FIELDS),
                ) from err
            self._settings = self._checked(settings)
            return self._settings

    def toggle(self, name: str) -> None:
        """Turns a setting that is on or off; recording only where there is anything to record."""
        with self._lock:
            if name != "recording" or self.can_record:
                self.change(**{name: not getattr(self._settings, name)})

    def turn_opacity(self, steps: int) -> None:
        """More or less of the class colours, within 0 and 1."""
        with self._lock:
            opacity = self._settings.opacity + steps * OPACITY_STEP
            self.change(opacity=round(min(1.0, max(0.0, opacity)), 2))

    def next_opacity(self) -> None:
        """The next quarter, and 0 after 1."""
        with self._lock:
            quarters = self._settings.opacity // OPACITY_STRIDE + 1
            opacity = quarters * OPACITY_STRIDE
            self.change(opacity=opacity if opacity <= 1 else 0.0)

    def next_effect(self) -> None:
        """The effect after this one, and the first after the last."""
        with self._lock:
            place = self.effects.index(self._settings.effect) + 1
            self.change(effect=self.effects[place % len(self.effects)])

    def request_snapshot(self) -> None:
        """Asks for the next picture to be saved."""
        self._snapshot = True

    def take_snapshot_request(self) -> bool:
        """Whether a picture was asked for; the request is then done."""
        with self._lock:
            asked, self._snapshot = self._snapshot, False
            return asked

    def quit(self) -> None:
        """Asks for the end of the stream."""
        self._quit.set()

    def hold(self, poll: Callable[[], None] = lambda: None) -> None:
        """Returns once the stream is not paused, or a viewer asked for the end.

        Args:
            poll: Called again and again meanwhile, as WindowSink.poll, which reads the keys.
        """
        while self._settings.paused and not self._quit.is_set():
            poll()
            self._quit.wait(HOLD_SECONDS)

    def _checked(self, settings: Settings) -> Settings:
        if type(settings.opacity) not in (int, float) or not 0 <= settings.opacity <= 1:
            raise ConfigError(f"the opacity is {settings.opacity!r}", expected="a number, 0 to 1")
        if settings.effect not in self.effects:
            raise ConfigError(
                f"there is no effect '{settings.effect}'", expected=", ".join(self.effects)
            )
        for name in ("legend", "paused", "recording"):
            if not isinstance(getattr(settings, name), bool):
                raise ConfigError(
                    f"the control {name} is {getattr(settings, name)!r}", expected="true or false"
                )
        if settings.recording and not self.can_record:
            raise ConfigError(
                "there is nothing to record to", expected="a stream started with --record FOLDER"
            )
        return settings
