"""What predict-video and predict-realtime share: model, drawing, sinks, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit.commands.prediction_figures import Progress, say, write_report
from segkit.commands.prediction_model import AUTO, ModelOptions, open_model
from segkit.commands.termination import terminable
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import Report, Stream
    from segkit.client.painter import Smoother
    from segkit.labels import LabelMap
    from segkit.video.effects import Drawer
    from segkit.video.frame import Frame, Image, Mask, SegmentedFrame, Sink
    from segkit.video.sinks import Controls
    from segkit.video.sources import OpenSource

__all__ = ["PredictionOptions", "predict"]

# What a viewer may choose beside the effects of the command line: those that need no class.
MORE_EFFECTS = ("overlay", "contours", "mask", "side_by_side", "original")
SMOOTHING = ("none", "hysteresis", "confidence")


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(ModelOptions):
    """Flags of drawing, smoothing and sinks."""

    effect: list[str] = field(default_factory=lambda: ["overlay"])
    """what to draw, one on the other: overlay, contours, mask, side_by_side, confidence,
    blur:CLASS, replace:CLASS:BACKGROUND, spotlight:CLASS, pixelate:CLASS (docs/effects.md)"""
    opacity: float = 0.5
    """share of the class colours in an overlay, 0 to 1"""
    legend: bool = True
    """whether a panel names the colours"""
    smooth: str = "none"
    """steadies the masks over time: none, hysteresis:FRAMES, or confidence"""
    save_masks: Path | None = None
    """folder for the masks, as PNGs of class ids"""
    mask_form: Literal["palette", "ids"] = "palette"
    """palette shows the classes in their colours, ids is plain grey; the values are the same"""
    json: Path | None = None
    """file for a line of JSON a frame: time, share of each class, milliseconds"""
    show: bool = False
    """a window, where there is a display; its keys are shown on the first frame"""
    visualize: bool = False
    """the same as --show"""
    view: str | None = None
    """host:port of a page that shows the stream in a browser"""
    snapshots: Path = Path("snapshots")
    """folder for pictures that a viewer asks for"""
    record: Path | None = None
    """folder for recordings that a viewer starts and ends"""
    window: str = AUTO
    """requests under way at the same time: a number, or auto (by what round trips take)"""
    max_outage: float = 30.0
    """seconds that the server may be away before the stream is given up"""
    overwrite: bool = False
    """replace outputs that exist"""
    report: Path | None = None
    """file for the final figures, as JSON"""
    progress: Literal["auto", "none", "plain"] = "auto"
    """auto: one living line on a terminal, plain lines elsewhere"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"--opacity is {self.opacity}", expected="a number from 0 to 1")
        if self.window != AUTO and not (self.window.isdecimal() and 1 <= int(self.window) <= 256):
            raise ConfigError(f"--window is '{self.window}'", expected="auto, or 1 to 256")
        if self.max_outage < 0:
            raise ConfigError(f"--max_outage is {self.max_outage}", expected="0 or more seconds")
        if not self.effect:
            raise ConfigError("--effect names none", expected="such as overlay")
        self._check_smoothing()

    def _check_smoothing(self) -> None:
        name, _, frames = self.smooth.partition(":")
        fits = frames.isdecimal() if name == "hysteresis" else not frames
        if name not in SMOOTHING or not fits:
            raise ConfigError(
                f"--smooth is '{self.smooth}'",
                expected="none, confidence, or hysteresis:FRAMES such as hysteresis:3",
            )

    @property
    def shows(self) -> bool:
        """Whether a window is wanted."""
        return self.show or self.visualize


class _Quit(Exception):
    """A viewer asked for the end."""


def predict(
    options: PredictionOptions,
    source: OpenSource,
    *,
    output: Path | None,
    audio: bool = False,
    max_staleness_s: float = 2.0,
) -> Report:
    """Streams a source through the model to the sinks, and prints what it took.

    Args:
        options: The flags.
        source: Opened; `source.info.live` decides whether frames may be left out.
        output: The video to write, if any.
        audio: Whether the source's sound goes into it.
        max_staleness_s: Live: the age at which a frame is left out.
    """
    from segkit.client import Stream
    from segkit.video.sinks import check_display

    if options.shows:
        check_display()  # before a model is waited for
    running: Stream | None = None
    try:
        with terminable(), ExitStack() as stack:
            frames, first = _peek(source)
            drawn_by = _needs(options)
            model = open_model(options, stack, first_image=first.image, confidence=drawn_by)
            labels = model.metadata.labels
            controls = _controls(options)
            running = Stream(
                model.segmenter,
                live=source.info.live,
                draw=_ControlledDrawer(labels, controls, options),
                smooth=_smoother(options.smooth),
                window=None if options.window == AUTO else int(options.window),
                max_outage_s=options.max_outage,
                max_staleness_s=max_staleness_s,
                close_source=source.close,
            )
            sinks = _Sinks(options, source, output, audio, labels, controls, running, stack)
            say(source, model, sinks.urls)
            progress = Progress(options.progress, source.info, running)

            def on_frame(segmented: SegmentedFrame) -> None:
                progress.show(segmented)
                sinks.after()

            try:
                running.run(frames, sinks.sinks, on_frame)
            except _Quit:
                pass
            finally:
                progress.finish()
        for line in sinks.written():
            print(line, flush=True)
    finally:
        if running is not None and running.report().captured:
            print("\n".join(running.report().lines()), flush=True)
    report = running.report()
    if options.report is not None:
        write_report(options.report, report)
    return report


def _peek(source: OpenSource) -> tuple[Iterator[Frame], Frame]:
    """The frames, and the first of them."""
    iterator = iter(source)
    first = next(iterator)
    return chain([first], iterator), first


def _needs(options: PredictionOptions) -> bool:
    """Whether the confidence has to be asked for."""
    names = {name for text in options.effect for name in text.split(":")[:2]}  # beside another
    return "confidence" in names or options.smooth == "confidence"


def _controls(options: PredictionOptions) -> Controls:
    from segkit.video.sinks import Controls, Settings

    chosen = " + ".join(options.effect)
    more = [name for name in MORE_EFFECTS if name != chosen]
    return Controls(
        Settings(opacity=options.opacity, effect=chosen, legend=options.legend),
        effects=[chosen, *more],
        can_record=options.record is not None,
    )


def _smoother(text: str) -> Smoother | None:
    from segkit.video.smoothing import ConfidenceAverage, Hysteresis

    name, _, frames = text.partition(":")
    if name == "hysteresis":
        return Hysteresis(int(frames))
    return ConfidenceAverage() if name == "confidence" else None


class _ControlledDrawer:
    """Draws as the controls say, of which it looks at each picture anew."""

    def __init__(self, labels: LabelMap, controls: Controls, options: PredictionOptions) -> None:
        self._labels, self._controls = labels, controls
        self._texts: Mapping[str, list[str]] = {name: [name] for name in controls.effects} | {
            controls.effects[0]: options.effect
        }
        self._drawers: dict[tuple[str, float, bool], Drawer] = {}
        self._drawer()  # a class that the model does not have fails before the first frame

    def __call__(self, image: Image, mask: Mask, confidence: Mask | None = None) -> Image:
        return self._drawer()(image, mask, confidence)

    def _drawer(self) -> Drawer:
        from segkit.video.effects import make_effects

        now = self._controls.settings
        key = (now.effect, now.opacity, now.legend)
        if key not in self._drawers:
            texts = self._texts[now.effect]
            self._drawers[key] = make_effects(
                texts, self._labels, opacity=now.opacity, legend=now.legend
            )
        return self._drawers[key]


class _Sinks:
    """The sinks that the flags ask for, and what viewers do."""

    def __init__(
        self,
        options: PredictionOptions,
        source: OpenSource,
        output: Path | None,
        audio: bool,
        labels: LabelMap,
        controls: Controls,
        running: Stream,
        stack: ExitStack,
    ) -> None:
        from segkit.video import sinks as video_sinks

        self._controls = controls
        self._files: list[tuple[str, Path]] = []
        self.urls: list[str] = []
        self.sinks: list[Sink] = []
        self._window: Any = None
        info, live = source.info, source.info.live

        def add(sink: Any) -> Any:
            self.sinks.append(stack.enter_context(sink))
            return sink

        def drops() -> Mapping[str, int]:
            return running.drops

        if output is not None:
            sound = source.path if audio else None
            add(video_sinks.VideoFileSink(output, info, overwrite=options.overwrite, audio=sound))
            self._files.append(("", output))
        if options.save_masks is not None:
            add(
                video_sinks.MaskSink(
                    options.save_masks,
                    labels,
                    form=options.mask_form,
                    overwrite=options.overwrite,
                    live=live,
                )
            )
            self._files.append(("masks in ", options.save_masks))
        if options.json is not None:
            add(
                video_sinks.JsonLinesSink(
                    options.json, labels, dropped=drops, overwrite=options.overwrite, live=live
                )
            )
            self._files.append(("", options.json))
        if options.view is not None:
            page = video_sinks.PageSink(
                options.view, labels, controls, title=source.name, dropped=drops
            )
            self.urls.append(add(page).url)
            if not options.view.startswith(("127.", "localhost", "[::1]")):
                self.urls[-1] += " (everybody in the network can see it and move its controls)"
        if options.shows:
            self._window = add(video_sinks.WindowSink(controls, title=source.name))
        if options.view is not None or options.shows:
            add(video_sinks.SnapshotSink(options.snapshots, controls))
        if options.record is not None:
            add(video_sinks.RecordingSink(options.record, info, controls))

    def after(self) -> None:
        """Stands still while a viewer wants that, and ends when one asks for it."""
        self._controls.hold(self._window.poll if self._window is not None else lambda: None)
        if self._controls.quitting:
            raise _Quit

    def written(self) -> list[str]:
        """A line for each file that is there now."""
        return [f"wrote {what}{path}" for what, path in self._files]
