from __future__ import annotations

import json
from pathlib import Path

import pytest

from segkit.engines import find_variant, open_engine
from segkit.engines.variants import (
    PRECISIONS,
    VARIANTS_FILE,
    Variant,
    VariantName,
    read_variants,
    write_variants,
)
from segkit.errors import ConfigError, ContractMismatch, ExportError


def test_names_read_as_they_are_written() -> None:
    for engine, precisions in PRECISIONS.items():
        for precision in precisions:
            name = VariantName(engine, precision)
            assert VariantName.parse(str(name), flag="--format") == name
        assert VariantName.parse(engine, flag="--format") == VariantName(engine, precisions[0])


@pytest.mark.parametrize(
    ("text", "problem", "expected"),
    [
        ("caffe", "no engine 'caffe', which --format names", "tensorflow, openvino"),
        ("tflite:bfloat16", "no precision 'bfloat16'", "tflite:float16"),
    ],
)
def test_other_names_are_refused(text: str, problem: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        VariantName.parse(text, flag="--format")
    assert expected in caught.value.expected


def test_the_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    variants = (
        Variant(name=VariantName("tensorflow"), path="", size_bytes=3),
        Variant(
            name=VariantName("openvino", "int8"),
            path="openvino/int8.xml",
            size_bytes=2,
            proof={"agreement": 0.5},
        ),
    )
    write_variants(tmp_path, variants)
    assert read_variants(tmp_path) == variants


def test_the_size_is_that_of_all_files_of_a_form(tmp_path: Path) -> None:
    for name, size in {
        "saved_model.pb": 5,
        "variables/variables.index": 7,
        "openvino/float32.xml": 11,
        "openvino/float32.bin": 13,
        "openvino/int8.xml": 17,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    sizes = [
        Variant.of(VariantName("tensorflow"), tmp_path, path).size_bytes
        for path in ("", "openvino/float32.xml", "openvino/int8.xml")
    ]
    assert sizes == [12, 24, 17]


def test_a_version_without_a_list_is_its_saved_model(tiny_export: Path, tmp_path: Path) -> None:
    (variant,) = read_variants(tmp_path)
    assert (str(variant.name), variant.path) == ("tensorflow:float32", "")
    assert find_variant(tiny_export / "1").name == VariantName("tensorflow")


def test_a_form_that_the_version_does_not_have_is_named(tiny_export: Path) -> None:
    with pytest.raises(ExportError, match="no variant for openvino:int8") as caught:
        open_engine(tiny_export / "1", "openvino:int8")
    assert caught.value.expected == "one that it has: tensorflow:float32"
    assert "--format openvino:int8" in caught.value.next_step


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps([{"engine": "openvino"}])])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / VARIANTS_FILE).parent.mkdir()
    (tmp_path / VARIANTS_FILE).write_text(text)
    with pytest.raises(ContractMismatch, match=r"variants\.json' is no list of variants"):
        read_variants(tmp_path)


PROVED, FAILED, UNPROVED = {"passed": True}, {"passed": False}, {}


@pytest.mark.parametrize(
    ("forms", "computes_bfloat16", "chosen"),
    [
        ({"openvino:bfloat16": PROVED, "openvino:float32": PROVED}, True, "openvino:bfloat16"),
        ({"openvino:bfloat16": PROVED, "openvino:float32": PROVED}, False, "openvino:float32"),
        ({"openvino:bfloat16": UNPROVED, "openvino:float32": PROVED}, True, "openvino:float32"),
        ({"openvino:bfloat16": PROVED}, False, "tensorflow:float32"),
        ({"openvino:float32": FAILED}, True, "tensorflow:float32"),
        ({"openvino:int8": PROVED, "tflite:float32": PROVED}, True, "tensorflow:float32"),
    ],
)
def test_auto_is_the_fastest_form_that_was_proved_and_runs_here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forms: dict[str, dict[str, bool]],
    computes_bfloat16: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr("segkit.engines.computes_bfloat16", lambda: computes_bfloat16)
    names = [VariantName("tensorflow"), *(VariantName.parse(x, flag="") for x in forms)]
    write_variants(
        tmp_path,
        [
            Variant(name=name, path="", size_bytes=1, proof=forms.get(str(name), PROVED))
            for name in names
        ],
    )
    assert str(find_variant(tmp_path).name) == chosen
    assert str(find_variant(tmp_path, "tensorflow").name) == "tensorflow:float32"
