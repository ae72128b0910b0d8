"""A street: everything in it, and the camera that drives through it."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from segkit.data.scenes.camera import Camera
from segkit.data.scenes.canvas import Canvas
from segkit.data.scenes.cars import Body, Car
from segkit.data.scenes.ground import HALF_ROAD, KERB_HEIGHT, Ground, Layout
from segkit.data.scenes.houses import Houses
from segkit.data.scenes.lens import Lens
from segkit.data.scenes.light import Light
from segkit.data.scenes.people import Look, Person
from segkit.data.scenes.sky import Sky
from segkit.data.scenes.textures import Image
from segkit.data.scenes.trees import Tree, grow

__all__ = ["DRIVE_SECONDS", "Street"]

DRIVE_SECONDS = 12.0
_FAR = 90.0  # metres; what is farther away is not drawn
_FAR_PERSON = 26.0  # beyond, somebody would be a few pixels that no network at stride 8 can find
_SUPERSAMPLING = 1.25


class _Thing(Protocol):
    def place(self, t: float) -> tuple[float, float]: ...

    def paint(self, canvas: Canvas, t: float) -> None: ...


class Street:
    """A random street and a drive through it; the same seed gives the same pictures.

    Args:
        seed: Which street.
        image_size: Height and width of the pictures, pixels.
    """

    def __init__(self, seed: int, *, image_size: tuple[int, int] = (360, 480)) -> None:
        rng = np.random.default_rng([2611, seed])
        self._seed = seed
        self._image_size = image_size
        self._speed = float(rng.uniform(3.2, 5.2))
        self._sway = rng.uniform(0.5, 1.0, 6) * (0.18, 0.022, 0.012, 0.009, 0.03, 1.0)
        self._lane = float(rng.uniform(0.5, 1.0))
        self._eye = float(rng.uniform(1.45, 1.95))
        self._focal = float(rng.uniform(0.92, 1.05))
        self._layout = _plan(rng, self._speed)
        self.light = Light.random(rng)
        self._lens = Lens(rng, image_size)
        self._sky = Sky(rng, self.light)
        self._houses = Houses(rng, self._layout, self.light)
        trees = self._plant(rng)
        self._ground = Ground(
            rng,
            self._layout,
            self.light,
            heights=self._houses.heights,
            crowns=[(tree.x, tree.z, 0.68 * tree.size, 0.25 * tree.size) for tree in trees],
        )
        self._things: list[_Thing] = [
            *trees,
            *self._park(rng),
            *self._traffic(rng),
            *self._populate(rng),
        ]

    def render(self, t: float) -> tuple[Image, Image]:
        """The street at t seconds, 0..DRIVE_SECONDS.

        Returns:
            Image uint8 (H, W, 3) RGB, and mask uint8 (H, W) of class ids.
        """
        height, width = self._image_size
        large = (round(height * _SUPERSAMPLING), round(width * _SUPERSAMPLING))
        canvas = Canvas(self._camera(t, large), self.light)
        self._sky.paint(canvas)
        self._ground.paint(canvas)
        self._houses.paint(canvas)
        camera_z = float(canvas.camera.position[2])
        placed = [(thing.place(t), thing) for thing in self._things]
        ahead = [
            (z, -abs(x), thing)
            for (x, z), thing in placed
            if -1.5 < z - camera_z < (_FAR_PERSON if isinstance(thing, Person) else _FAR)
        ]
        for _, _, thing in sorted(ahead, key=lambda entry: entry[:2], reverse=True):
            thing.paint(canvas, t)
        image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(canvas.mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        shot = np.random.default_rng([self._seed, round(t * 1000)])
        return self._lens.expose(np.asarray(image), t, shot), np.asarray(mask)

    def render_jpeg(self, t: float) -> tuple[bytes, Image]:
        """The same, with the image as this camera's JPEG."""
        image, mask = self.render(t)
        return self._lens.compress(image), mask

    def _camera(self, t: float, image_size: tuple[int, int]) -> Camera:
        side, yaw, pitch, roll, bounce, phase = self._sway
        return Camera(
            (
                self._lane + side * np.sin(0.7 * t + phase),
                self._eye + bounce * np.sin(5.1 * t + 2 * phase) * 0.6,
                self._speed * t,
            ),
            image_size=image_size,
            yaw=yaw * np.sin(0.9 * t + 1.3 * phase) - 0.02,
            pitch=-0.045 + pitch * np.sin(3.7 * t + phase),
            roll=roll * np.sin(1.9 * t),
            focal=self._focal,
        )

    def _plant(self, rng: np.random.Generator) -> list[Tree]:
        pictures = [grow(rng, self.light) for _ in range(3)]
        trees = []
        for side in (-1, 1):
            z, gap = self._layout.start + rng.uniform(0, 10), rng.uniform(8, 17)
            while z < self._layout.end - 8:
                if self._free(z, 3) and rng.random() < 0.85:
                    picture = pictures[rng.integers(3)]
                    x = side * (HALF_ROAD + rng.uniform(0.6, 1.0))
                    trees.append(Tree(x, z, float(rng.uniform(5.5, 8.5)), picture))
                z += gap * rng.uniform(0.8, 1.3)
        return trees

    def _park(self, rng: np.random.Generator) -> list[Car]:
        """Parked cars on the left."""
        cars = []
        share = rng.uniform(0.25, 0.6)
        z = self._layout.start
        while z < self._layout.end - 12:
            if rng.random() < share and self._free(z, 4.5):
                body = Body.random(rng)
                x = -(HALF_ROAD - 0.12 - body.width / 2)
                cars.append(Car(body, x, z, 0.0, backwards=bool(rng.random() < 0.5)))
            z += rng.uniform(5.3, 6.8)
        return cars

    def _traffic(self, rng: np.random.Generator) -> list[Car]:
        """Cars ahead in the same direction: the street is one-way."""
        cars = []
        z = rng.uniform(7.5, 13)
        for _ in range(int(rng.choice([0, 1, 2], p=[0.25, 0.45, 0.3]))):
            speed, braking = self._speed + rng.uniform(-0.1, 0.35), bool(rng.random() < 0.4)
            x = rng.uniform(0.6, 1.1)
            cars.append(Car(Body.random(rng), x, z, speed, backwards=False, braking=braking))
            z += rng.uniform(11, 18)
        return cars

    def _populate(self, rng: np.random.Generator) -> list[Person]:
        people = []
        for side in (-1, 1):
            z, density = self._layout.start, rng.uniform(3.5, 6.5)
            depth = self._layout.frontage[side > 0]
            while z < self._layout.end - 8:
                z += rng.exponential(density) + 0.4
                x = side * rng.uniform(HALF_ROAD + 0.5, min(depth - 0.6, HALF_ROAD + 2.6))
                pace = float(rng.uniform(0.9, 1.5) * rng.choice([-1, 1]))
                standing = rng.random() < 0.2
                for member in range(2 if rng.random() < 0.3 else 1):
                    velocity = (0.0, 0.0 if standing else pace)
                    spot = x - side * 0.62 * member, z + 0.2 * member
                    people.append(
                        Person(Look.random(rng), *spot, velocity, KERB_HEIGHT, rng.uniform(0, 6.28))
                    )
        crossings = list(self._layout.zebras)
        crossings += [float(rng.uniform(9, 66)) for _ in range(rng.integers(6, 10))]
        for z in crossings:
            for _ in range(rng.integers(1, 4)):
                people.append(self._crossing(rng, z + rng.uniform(-1.2, 1.2)))
        return people

    def _crossing(self, rng: np.random.Generator, z: float) -> Person:
        """Somebody who crosses the road and is on the other side before the camera arrives."""
        pace, side = float(rng.uniform(1.1, 1.6)), int(rng.choice([-1, 1]))
        wide = 2 * HALF_ROAD + 1.2
        until = z / self._speed - rng.uniform(0.6, 1.3)
        since = until - wide / pace
        # A walk that began before the drive is entered on the way.
        x = -side * (wide / 2 - pace * max(0.0, -since))
        start = max(since, 0.0)
        return Person(
            Look.random(rng),
            x,
            z,
            (side * pace, 0.0),
            KERB_HEIGHT,
            rng.uniform(0, 6.28),
            start,
            until,
        )

    def _free(self, z: float, margin: float) -> bool:
        """Whether nothing crosses there."""
        streets = self._layout.side_streets
        return all(not from_z - margin < z < to_z + margin for from_z, to_z in streets) and all(
            abs(z - zebra) > 2.5 + margin for zebra in self._layout.zebras
        )


def _plan(rng: np.random.Generator, speed: float) -> Layout:
    end = speed * DRIVE_SECONDS + rng.uniform(55, 85)
    streets, z = [], rng.uniform(10, 45)
    while z < end - 30:
        streets.append((float(z), float(z + rng.uniform(9, 12))))
        z += rng.uniform(38, 80)
    zebras = [from_z - 2.6 for from_z, _ in streets if from_z > 8]
    left, right = rng.uniform(7.2, 9.0, 2)
    return Layout(
        -10.0, float(end), HALF_ROAD, (float(left), float(right)), tuple(streets), tuple(zebras)
    )
