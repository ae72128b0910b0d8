"""make_effect(): a drawer by the words of a user, as in `blur:person` or `pixelate:person,car`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segkit.errors import ConfigError
from segkit.labels import LabelMap
from segkit.video.effects.backdrops import make_backdrop
from segkit.video.effects.background import Blur, Spotlight
from segkit.video.effects.confidence_map import ConfidenceMap
from segkit.video.effects.contours import Contours
from segkit.video.effects.drawer import Drawer
from segkit.video.effects.overlay import Overlay
from segkit.video.effects.pixelate import Pixelate
from segkit.video.effects.plain import InTurn, MaskOnly, Original, SideBySide
from segkit.video.effects.replace import Replace

__all__ = ["EFFECTS", "Effect", "make_effect", "make_effects"]


@dataclass(frozen=True)
class _Wish:
    """What a user asks of an effect: `text` is all of it, `rest` what follows the name."""

    text: str
    rest: str
    labels: LabelMap
    opacity: float
    legend: bool


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An effect that can be asked for.

    Args:
        usage: How to write it; what stands in brackets may be left out.
        meaning: What it shows.
        make: Makes its drawer.
    """

    usage: str
    meaning: str
    make: Callable[[_Wish], Drawer]


def make_effect(
    text: str, labels: LabelMap, *, opacity: float = 0.5, legend: bool = True
) -> Drawer:
    """The drawer that a text asks for: a name of EFFECTS and what its usage adds, after colons.

    Args:
        text: Such as "overlay", "overlay:road=0.2,car=0.8", "replace:person:beach.jpg".
        labels: The classes; names are found in any case.
        opacity: Share of the colours in an overlay.
        legend: Whether a panel names the colours, for effects that show some.

    Raises:
        ConfigError: There is no such effect, class or file, or an opacity cannot be.
        VideoError: A background cannot be read.
    """
    name, _, rest = text.partition(":")
    if name not in EFFECTS:
        raise ConfigError(
            f"there is no effect '{name}'",
            expected=_near(name, EFFECTS),
            next_step="see docs/effects.md for what each shows",
        )
    _check_opacity(opacity, "the effect's opacity")
    return EFFECTS[name].make(_Wish(text, rest, labels, opacity, legend))


def make_effects(
    texts: Sequence[str], labels: LabelMap, *, opacity: float = 0.5, legend: bool = True
) -> Drawer:
    """One drawer for one or more effects, each on the picture of the one before.

    Args:
        texts: As of make_effect.
        labels: As of make_effect.
        opacity: As of make_effect.
        legend: As of make_effect.

    Raises:
        ConfigError: As of make_effect; or there is no effect, or one follows a wider picture.
        VideoError: A background cannot be read.
    """
    if not texts:
        raise ConfigError("no effect is named", expected=f"one of {', '.join(EFFECTS)}")
    drawers = [make_effect(text, labels, opacity=opacity, legend=legend) for text in texts]
    for drawer, text in zip(drawers[:-1], texts, strict=False):
        if isinstance(drawer, SideBySide):
            raise ConfigError(
                f"the effect '{text}' is followed by another",
                expected="side_by_side last, since its picture is wider than the mask",
                next_step=f"put '{text}' at the end",
            )
    return drawers[0] if len(drawers) == 1 else InTurn(tuple(drawers))


def _overlay(wish: _Wish) -> Drawer:
    opacities = {}
    for entry in filter(None, wish.rest.split(",")):
        name, _, number = entry.partition("=")
        (class_id,) = _class_ids(name, wish)
        try:
            opacities[class_id] = float(number)
        except ValueError as err:
            raise _misused(wish, f"gives {name} the opacity '{number}'") from err
        _check_opacity(opacities[class_id], f"the effect '{wish.text}' and its opacity of {name}")
    return Overlay(wish.labels, opacity=wish.opacity, class_opacity=opacities, legend=wish.legend)


def _contours(wish: _Wish) -> Drawer:
    class_ids = _class_ids(wish.rest, wish) if wish.rest else ()
    return Contours(wish.labels, class_ids=class_ids, legend=wish.legend)


def _side_by_side(wish: _Wish) -> Drawer:
    right = make_effect(
        wish.rest or "overlay", wish.labels, opacity=wish.opacity, legend=wish.legend
    )
    if isinstance(right, SideBySide):
        raise _misused(wish, "puts one beside another")
    return SideBySide(right)


def _mask(wish: _Wish) -> Drawer:
    _check_bare(wish)
    return MaskOnly(wish.labels, wish.legend)


def _confidence(wish: _Wish) -> Drawer:
    _check_bare(wish)
    return ConfidenceMap(legend=wish.legend)


def _original(wish: _Wish) -> Drawer:
    _check_bare(wish)
    return Original()


def _replace(wish: _Wish) -> Drawer:
    names, _, backdrop = wish.rest.partition(":")
    if not backdrop:
        raise _misused(wish, "names no background")
    return Replace(_class_ids(names, wish), make_backdrop(backdrop))


EFFECTS: Mapping[str, Effect] = {
    "overlay": Effect(
        usage="overlay[:CLASS=OPACITY,...]",
        meaning="the classes in their colours over the image",
        make=_overlay,
    ),
    "contours": Effect(
        usage="contours[:CLASS,...]",
        meaning="the borders of the classes",
        make=_contours,
    ),
    "mask": Effect(
        usage="mask",
        meaning="the colours alone",
        make=_mask,
    ),
    "side_by_side": Effect(
        usage="side_by_side[:EFFECT]",
        meaning="the image, and beside it an effect (overlay)",
        make=_side_by_side,
    ),
    "confidence": Effect(
        usage="confidence",
        meaning="where the model is sure, dark, and where it is not, bright",
        make=_confidence,
    ),
    "blur": Effect(
        usage="blur:CLASS,...",
        meaning="the classes before a blurred background",
        make=lambda wish: Blur(_class_ids(wish.rest, wish)),
    ),
    "replace": Effect(
        usage="replace:CLASS,...:BACKGROUND",
        meaning="the classes before a colour (#rrggbb), a picture or a video",
        make=_replace,
    ),
    "spotlight": Effect(
        usage="spotlight:CLASS,...",
        meaning="the classes in colour, all else grey and dark",
        make=lambda wish: Spotlight(_class_ids(wish.rest, wish)),
    ),
    "pixelate": Effect(
        usage="pixelate:CLASS,...",
        meaning="the classes hidden in coarse blocks",
        make=lambda wish: Pixelate(_class_ids(wish.rest, wish)),
    ),
    "original": Effect(
        usage="original",
        meaning="the image as it came",
        make=_original,
    ),
}


def _class_ids(names: str, wish: _Wish) -> tuple[int, ...]:
    """Class ids of names with commas between."""
    if not names.strip():
        raise _misused(wish, "names no class")
    known = {name.casefold(): class_id for class_id, name in enumerate(wish.labels.names)}
    found = []
    for name in names.split(","):
        class_id = known.get(name.strip().casefold())
        if class_id is None:
            raise ConfigError(
                f"the effect '{wish.text}' names the class '{name.strip()}', which the model does "
                "not have",
                expected=_near(name.strip(), wish.labels.names),
            )
        found.append(class_id)
    return tuple(found)


def _misused(wish: _Wish, what: str) -> ConfigError:
    usage = EFFECTS[wish.text.partition(":")[0]].usage
    return ConfigError(f"the effect '{wish.text}' {what}", expected=usage)


def _check_bare(wish: _Wish) -> None:
    if wish.rest:
        raise _misused(wish, "takes nothing after its name")


def _check_opacity(opacity: float, what: str) -> None:
    if not 0 <= opacity <= 1:
        raise ConfigError(f"{what} is {opacity}", expected="a number from 0 to 1")


def _near(name: str, there: Sequence[str] | Mapping[str, Effect]) -> str:
    by_folded = {known.casefold(): known for known in there}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3)
    listed = ", ".join(there)
    if not close:
        return f"one of {listed}"
    return f"perhaps {' or '.join(by_folded[word] for word in close)}; there are {listed}"
