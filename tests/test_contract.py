from __future__ import annotations

import json
from dataclasses import replace

import pytest

from segkit.contract import CONTRACT_VERSION, Metadata
from segkit.errors import ContractMismatch


def test_a_record_is_read_back_as_written(tiny_metadata: Metadata) -> None:
    record = replace(
        tiny_metadata,
        val_mean_iou=0.5,
        created="2026-01-01T00:00:00+00:00",
        versions={"tensorflow": "2.15.1"},
        source="sha256:0",
        tensorrt={"gpu": "T4"},
    )
    assert Metadata.from_json(record.to_json(), source="test") == record


def test_a_later_contract_is_refused(tiny_metadata: Metadata) -> None:
    text = replace(tiny_metadata, contract_version=CONTRACT_VERSION + 1).to_json()
    with pytest.raises(ContractMismatch, match="upgrade segkit"):
        Metadata.from_json(text, source="server x")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"contract_version": 1}', b"\xff\xfe"])
def test_what_is_no_record_is_refused_with_its_source(text: str | bytes) -> None:
    with pytest.raises(ContractMismatch, match="server x does not describe itself"):
        Metadata.from_json(text, source="server x")


def test_a_record_with_a_broken_label_is_refused(tiny_metadata: Metadata) -> None:
    record = json.loads(tiny_metadata.to_json())
    del record["labels"][0]["color"]
    with pytest.raises(ContractMismatch):
        Metadata.from_json(json.dumps(record), source="server x")
