"""What segkit's own layers cost: a float32 forward pass beside the network in plain Keras layers.

All three are measured in one run, taking turns, with the same weights and the same image:

    stock       the network in tf.keras.layers alone (stock_layers.py)
    bilinear    build_model(): the form for training and for CPU serving
    matmul      build_model(resize="matmul"): the form for TensorRT

Each is a traced function of one float32 image that gives float32 logits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from stock_layers import stock_keras
from turns import take_turns

from segkit.engines.cpu import cpu_name
from segkit.models import NETWORKS, build_model
from segkit.models.graph import float_core
from segkit.video.meters import percentiles

STOCK = "stock"
FORMS = ("bilinear", "matmul")
NO_SLOWER = 1.05  # bilinear to stock; two runs of the same graph differ by as much
COLORS = {STOCK: "#9aa0a6", "bilinear": "#1a73e8", "matmul": "#f29900"}

Figures = dict[str, dict[str, float]]


def forward_passes(name: str, size: tuple[int, int]) -> dict[str, Callable[[], np.ndarray]]:
    """The three ways to run a network on one image; they give the same logits."""
    tf.keras.utils.set_random_seed(0)
    models = {form: build_model(name, size, 19, resize=form) for form in FORMS}
    models["matmul"].set_weights(models["bilinear"].get_weights())
    models = {STOCK: stock_keras(models["bilinear"]), **models}

    grid = np.random.default_rng(0).uniform(0, 255, (1, -(-size[0] // 16), -(-size[1] // 16), 3))
    squares = grid.repeat(16, axis=1).repeat(16, axis=2)[:, : size[0], : size[1]]
    image = tf.constant(squares, tf.float32)

    def way(model: tf.keras.Model) -> Callable[[], np.ndarray]:
        logits = float_core(model, batch_size=1)
        return lambda: logits(image).numpy()

    ways = {form: way(model) for form, model in models.items()}
    expected = ways[STOCK]()
    for form in FORMS:
        error = np.abs(ways[form]() - expected).max() / np.abs(expected).max()
        assert error <= 1e-4, f"{name}, {form}: logits differ by {error:.1e} of the largest"
    return ways


def summarize(passes: dict[str, list[float]]) -> Figures:
    """Median and p90, and the median of the ratios to stock within a round."""
    figures = {}
    for form, values in passes.items():
        p50, p90 = percentiles(values, (50, 90))
        ratio = float(np.median(np.divide(values, passes[STOCK])))
        figures[form] = {"p50_ms": p50, "p90_ms": p90, "ratio_to_stock": ratio}
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmarks/results/forward_pass.json"),
        help="the figures as JSON; the plot lies beside it as PNG",
    )
    options = parser.parse_args()

    figures: dict[str, Figures] = {}
    for name in options.networks:
        print(f"measuring {name}, {options.rounds} rounds", flush=True)
        ways = forward_passes(name, (options.height, options.width))
        figures[name] = summarize(take_turns(ways, options.rounds))
        tf.keras.backend.clear_session()
    record = {
        "command": "python " + " ".join(sys.argv),
        "image_size": [options.height, options.width],
        "batch_size": 1,
        "precision": "float32",
        "rounds": options.rounds,
        "machine": f"{cpu_name()}; TensorFlow {tf.__version__}",
        "figures": figures,
        "no_slower": NO_SLOWER,
    }
    report(record, figures)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    picture = options.output.with_suffix(".png")
    plot(record, figures, picture)
    print(f"wrote {options.output} and {picture}")
    return int(any(forms["bilinear"]["ratio_to_stock"] > NO_SLOWER for forms in figures.values()))


def report(record: dict[str, object], figures: dict[str, Figures]) -> None:
    print(f"{record['command']}\n{record['machine']}, {record['rounds']} rounds")
    print(f"{'median (p90), ms':<38}" + "".join(f"{form:>24}" for form in (STOCK, *FORMS)))
    for name, forms in figures.items():
        cells = [
            f"{f['p50_ms']:.1f} ({f['p90_ms']:.1f}) {f['ratio_to_stock']:.2f}x"
            for f in forms.values()
        ]
        print(f"{name:<38}" + "".join(f"{cell:>24}" for cell in cells))


def plot(record: dict[str, object], figures: dict[str, Figures], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.95 * len(figures)), layout="constrained")
    axes = figure.subplots()
    for row, forms in enumerate(figures.values()):
        for index, (form, values) in enumerate(forms.items()):
            y, p50, p90 = row + 0.26 * (index - 1), values["p50_ms"], values["p90_ms"]
            label = form if row == 0 else None
            axes.barh(y, p50, height=0.24, color=COLORS[form], label=label)
            axes.plot([p50, p90], [y, y], color="#202124", linewidth=1)
            text = f" {p50:.0f} ms" + (
                "" if form == STOCK else f", {values['ratio_to_stock']:.2f}x stock"
            )
            axes.text(p90, y, text, va="center", size=8.5)
    axes.set_yticks(range(len(figures)), list(figures))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.28 * max(f["p90_ms"] for forms in figures.values() for f in forms.values()))
    height, width = record["image_size"]  # type: ignore[misc]
    axes.set_xlabel(f"ms for one {height}x{width} image, float32; bar: median, line: to p90")
    axes.set_title(str(record["machine"]), size=9, loc="left")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
