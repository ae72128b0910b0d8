"""House fronts: walls, windows, doors, balconies and shops, as albedo textures."""

from __future__ import annotations

import cv2
import numpy as np

from segkit.data.scenes.textures import Floats, bricks, fractal, noise

__all__ = ["DENSITY", "front", "gable"]

DENSITY = 20  # texture pixels a metre
_WALLS = (
    (196, 176, 142), (178, 112, 84), (150, 78, 62), (186, 186, 180), (206, 196, 170),
    (160, 170, 176), (202, 156, 124), (128, 92, 76), (214, 208, 198), (176, 150, 116),
    (142, 152, 138), (190, 132, 120),
)  # fmt: skip
_TRIMS = ((232, 228, 220), (92, 84, 78), (120, 58, 44), (64, 82, 70), (210, 202, 186))
_SIGNS = ((168, 44, 40), (36, 72, 110), (40, 94, 66), (200, 148, 44), (60, 58, 62), (112, 52, 92))

Color = tuple[int, int, int]


def front(rng: np.random.Generator, width: float, floors: int) -> Floats:
    """A street front, float32, (H, W, 3), albedo 0..255; `width` in metres."""
    floor = round(rng.uniform(2.9, 3.5) * DENSITY)
    ground = round(rng.uniform(3.3, 4.2) * DENSITY)
    top = round(rng.uniform(0.5, 1.3) * DENSITY)
    height, across = top + floors * floor + ground, round(width * DENSITY)
    wall = _wall(rng, (height, across))
    trim = _pick(rng, _TRIMS)
    paper = np.ascontiguousarray(wall)
    _cornice(paper, trim, top)
    style = _WindowStyle(rng, floor, trim)
    pitch = rng.uniform(1.9, 3.0) * DENSITY
    count = max(2, round(across / pitch))
    centers = (np.arange(count) + 0.5) * across / count
    balconies = set(np.flatnonzero(rng.random(count) < rng.choice([0, 0, 0.35, 0.6])).tolist())
    for level in range(floors):
        upper = top + level * floor
        if rng.random() < 0.5:
            _band(paper, upper + floor - 4, 3, trim)
        for column, center in enumerate(centers):
            style.draw(paper, rng, round(center), upper)
            if column in balconies:
                _balcony(paper, rng, round(center), upper + floor, across / count, trim)
    _ground_floor(paper, rng, height - ground, trim)
    return paper


def gable(rng: np.random.Generator, width: float, height: float) -> Floats:
    """A side wall with at most a few windows, float32, (H, W, 3), albedo 0..255; metres."""
    shape = (round(height * DENSITY), round(width * DENSITY))
    paper = np.ascontiguousarray(_wall(rng, shape))
    style = _WindowStyle(rng, round(3.1 * DENSITY), _pick(rng, _TRIMS))
    for upper in range(20, shape[0] - 80, round(3.1 * DENSITY)):
        for center in range(60, shape[1] - 30, 110):
            if rng.random() < 0.45:
                style.draw(paper, rng, center, upper)
    return paper


class _WindowStyle:
    """The windows of one house: all of a kind, none like the other."""

    def __init__(self, rng: np.random.Generator, floor: int, trim: Color) -> None:
        self._trim = trim
        self._half = round(rng.uniform(0.45, 0.8) * DENSITY)
        self._high = round(rng.uniform(0.48, 0.64) * floor)
        self._drop = round(0.2 * floor)
        self._panes = int(rng.integers(1, 4))
        self._shutters = _pick(rng, ((70, 92, 76), (96, 70, 52), (70, 88, 112)))
        self._has_shutters = rng.random() < 0.3
        self._glass = rng.uniform(0.6, 1.2) * np.array([66, 82, 98], np.float32)

    def draw(self, paper: Floats, rng: np.random.Generator, center: int, upper: int) -> None:
        half, high = self._half, self._high
        top, left = upper + self._drop, center - half
        bottom, right = top + high, center + half
        if self._has_shutters:
            for edge in (left - half, right + 1):
                _box(paper, edge, top, edge + half - 1, bottom, self._shutters)
                for y in range(top + 2, bottom, 4):
                    _box(paper, edge + 1, y, edge + half - 2, y, _scaled(self._shutters, 0.75))
        _box(paper, left - 2, top - 2, right + 2, bottom + 2, self._trim)
        pane = paper[max(top, 0) : bottom, max(left, 0) : right]
        if not pane.size:
            return
        shine = np.linspace(1.35, 0.6, pane.shape[0], dtype=np.float32)[:, None]
        slant = np.linspace(rng.uniform(-0.25, 0.25), 0, pane.shape[1], dtype=np.float32)[None]
        pane[:] = (shine + slant)[..., None] * self._glass * rng.uniform(0.75, 1.3)
        kind = rng.random()
        if kind < 0.35:  # curtains
            side = max(2, round(half * rng.uniform(0.3, 0.8)))
            cloth = np.array([206, 198, 182], np.float32) * rng.uniform(0.6, 1.0)
            pane[:, :side] = 0.35 * pane[:, :side] + 0.65 * cloth
            pane[:, -side:] = 0.35 * pane[:, -side:] + 0.65 * cloth
        elif kind < 0.5:  # a blind, let down
            down = round(high * rng.uniform(0.2, 0.8))
            pane[:down] = np.array([190, 186, 174], np.float32) * rng.uniform(0.7, 1.0)
            pane[:down:3] *= 0.85
        elif kind < 0.56:  # somebody is at home
            pane[:] = 0.4 * pane + 0.6 * np.array([250, 214, 140], np.float32)
        pane[:2] *= 0.55  # the reveal's shadow
        for index in range(1, self._panes):
            x = left + index * 2 * half // self._panes
            _box(paper, x, top, x, bottom, self._trim)
        _box(paper, left, top + high // 3, right, top + high // 3, self._trim)
        _box(paper, left - 3, bottom + 1, right + 3, bottom + 3, _scaled(self._trim, 1.05))
        below = paper[bottom + 4 : bottom + 7, max(left - 2, 0) : right + 5]
        below *= 0.72


def _wall(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    tone = 1 + 0.07 * fractal(rng, shape, (130, 40, 9), 0.7)
    if rng.random() < 0.45:
        tone = tone * bricks(rng, shape, size=(3, 7), contrast=rng.uniform(0.08, 0.2))
    else:
        tone = tone * (1 + 0.05 * noise(rng, shape, 1.5))
    streaks = noise(rng, (1, shape[1]), 5)[0] * np.linspace(1, 0.2, shape[0])[:, None]
    tone = tone * (1 + 0.05 * streaks)
    tone[-14:] *= np.linspace(1, 0.8, 14)[:, None]  # splashes at the foot
    color = np.array(_pick(rng, _WALLS)) * rng.uniform(0.82, 1.12)
    return np.asarray(tone[..., None] * color, np.float32)


def _cornice(paper: Floats, trim: Color, top: int) -> None:
    depth = max(5, top // 3)
    _box(paper, 0, 0, paper.shape[1], depth, trim)
    paper[depth // 2 : depth // 2 + 2] *= 0.8
    paper[depth + 1 : depth + 6] *= 0.68
    for x in range(4, paper.shape[1], 12):
        _box(paper, x, depth + 1, x + 4, depth + 3, trim)


def _band(paper: Floats, y: int, high: int, trim: Color) -> None:
    paper[y : y + high] = 0.5 * paper[y : y + high] + 0.5 * np.array(trim, np.float32)
    paper[y + high : y + high + 2] *= 0.78


def _balcony(
    paper: Floats, rng: np.random.Generator, center: int, floor: int, pitch: float, trim: Color
) -> None:
    half = round(0.44 * pitch)
    left, right = center - half, center + half
    rail = round(1.0 * DENSITY)
    dark = _scaled(_pick(rng, ((58, 58, 62), (88, 70, 56), (120, 122, 124))), 1.0)
    for x in range(left, right + 1, 3):
        _box(paper, x, floor - rail, x, floor, dark)
    _box(paper, left, floor - rail, right, floor - rail + 1, dark)
    _box(paper, left - 1, floor, right + 1, floor + 3, trim)
    paper[floor + 4 : floor + 14, max(left, 0) : right] *= 0.62
    if rng.random() < 0.4:  # flowers
        for _ in range(24):
            x, y = rng.integers(left, right + 1), floor - rail + rng.integers(-3, 4)
            color = _pick(rng, ((96, 130, 60), (120, 148, 70), (200, 66, 80), (226, 170, 70)))
            cv2.circle(paper, (int(x), int(y)), 2, color, -1)


def _ground_floor(paper: Floats, rng: np.random.Generator, top: int, trim: Color) -> None:
    height, across = paper.shape[:2]
    plinth = _scaled(_pick(rng, _WALLS), rng.uniform(0.5, 0.85))
    if rng.random() < 0.6:
        paper[top:] = 0.25 * paper[top:] + 0.75 * np.array(plinth, np.float32)
        paper[top:] *= (1 + 0.06 * noise(rng, (height - top, across), 3))[..., None]
    _band(paper, top, 4, trim)
    x = round(rng.uniform(0.5, 1.2) * DENSITY)
    while x < across - 2 * DENSITY:
        if rng.random() < 0.62:
            wide = round(rng.uniform(2.4, 4.6) * DENSITY)
            _shop(paper, rng, x, min(x + wide, across - 8), top + 8)
        else:
            wide = round(1.2 * DENSITY)
            _door(paper, rng, x, x + wide, top + 14, trim)
        x += wide + round(rng.uniform(0.5, 1.2) * DENSITY)


def _shop(paper: Floats, rng: np.random.Generator, left: int, right: int, top: int) -> None:
    bottom = paper.shape[0] - 8
    sign = _pick(rng, _SIGNS)
    _box(paper, left - 3, top, right + 3, bottom, _scaled(sign, 0.55))
    board = top + 13
    _box(paper, left - 2, top + 1, right + 2, board, sign)
    x = left + 8
    while x < right - 12:  # lettering that nobody can read
        wide = int(rng.integers(3, 7))
        _box(paper, x, top + 4, x + wide - 2, top + 10, (236, 232, 220))
        x += wide + (5 if rng.random() < 0.2 else 0)
    glass = paper[board + 3 : bottom - 5, left:right]
    glass[:] = np.linspace(1.1, 0.6, glass.shape[0], dtype=np.float32)[:, None, None] * np.array(
        [74, 84, 92], np.float32
    )
    for _ in range(9):  # goods and lamps
        x, y = int(rng.integers(left, right)), int(rng.integers(board + 10, bottom - 4))
        color = _scaled(_pick(rng, (*_SIGNS, (240, 216, 160), (220, 220, 214))), 0.9)
        cv2.rectangle(paper, (x, y), (x + int(rng.integers(2, 9)), bottom - 8), color, -1)
    glass *= (0.9 + 0.2 * noise(rng, (glass.shape[0], glass.shape[1]), 12))[..., None]
    for x in range(left, right, round(1.3 * DENSITY)):
        _box(paper, x, board + 2, x + 1, bottom - 4, _scaled(sign, 0.5))
    if rng.random() < 0.55:  # an awning
        depth, light = round(rng.uniform(0.7, 1.1) * DENSITY), (232, 226, 212)
        for index, x in enumerate(range(left - 3, right + 3, 7)):
            color = sign if index % 2 else light
            _box(paper, x, board, min(x + 6, right + 3), board + depth, color)
        paper[board + depth - 4 : board + depth + 1, max(left - 3, 0) : right + 3] *= 0.86
        paper[board + depth + 1 : board + depth + 12, max(left - 3, 0) : right + 3] *= 0.6


def _door(
    paper: Floats, rng: np.random.Generator, left: int, right: int, top: int, trim: Color
) -> None:
    bottom = paper.shape[0] - 1
    color = _scaled(_pick(rng, (*_SIGNS, (98, 72, 50), (70, 60, 54))), rng.uniform(0.6, 1.0))
    _box(paper, left - 3, top - 3, right + 3, bottom, trim)
    _box(paper, left, top, right, bottom, color)
    _box(paper, left + 2, top + 2, right - 2, top + 10, (92, 104, 112))
    for upper in (top + 15, (top + bottom) // 2 + 6):
        _box(
            paper, left + 4, upper, right - 4, (bottom - top) // 2 - 14 + upper, _scaled(color, 0.8)
        )
    _box(paper, right - 4, (top + bottom) // 2, right - 3, (top + bottom) // 2 + 2, (220, 200, 140))


def _box(paper: Floats, left: int, top: int, right: int, bottom: int, color: Color) -> None:
    cv2.rectangle(paper, (left, top), (right, bottom), color, -1)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _scaled(color: Color, factor: float) -> Color:
    red, green, blue = color
    return round(red * factor), round(green * factor), round(blue * factor)
