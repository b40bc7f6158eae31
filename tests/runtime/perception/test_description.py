"""A user's description: read from strict JSON, and refused in one line that says what is wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from descriptions import SHIPPED, changed, rules_of, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpt_edge.runtime.errors import BundleError, CheckpointError
from vpt_edge.runtime.perception.description import FOLDER, find_rules, read_rules, shipped_names
from vpt_edge.runtime.perception.rules import block
from vpt_edge.runtime.perception.text import TextPerception
from vpt_edge.runtime.testing import tiny_bundle

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest

TOOL: dict[str, Any] = SHIPPED["tools"][0]
ORIGINAL: dict[str, Any] = {"look.picture": None, "look.box": None, "look.resize": None}
BOX_FORM: dict[str, Any] = {
    "call.form": "box",
    "call.name": None,
    "tools": [],
    "opening.system": "Look.",
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_bundle(tmp_path_factory.mktemp("bundle")).manifest


def refusal(path: Path) -> str:
    """The one line with which a file is refused; it says where to read on."""
    with pytest.raises(CheckpointError) as error:
        read_rules(path)
    text = str(error.value)
    assert text.startswith(f"{path}")
    assert "\n" not in text
    assert text.endswith("; docs/perceptions.md says what each key means")
    return text


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The dotted keys of a description, but for those within tools."""
    for key, inner in value.items():
        yield f"{path}{key}"
        if isinstance(inner, dict):
            yield from paths(inner, f"{path}{key}.")


@pytest.mark.parametrize("name", shipped_names())
def test_what_is_shipped_is_found_by_name(name: str) -> None:
    rules = find_rules(name)
    assert rules == read_rules(FOLDER / f"{name}.json")


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = written({"rounds": 2}, tmp_path)
    assert find_rules(str(path)) == replace(rules_of({}), rounds=2)


@pytest.mark.parametrize("name", ["zoom", "../zoom.json", "a" * 10, "."])
def test_another_name_is_refused(name: str) -> None:
    expected = "^there is no description .*: expected a file, or one of: none, qwen3-vl-zoom; "
    with pytest.raises(CheckpointError, match=expected):
        find_rules(name)


def test_a_bundle_keeps_them(manifest: Manifest) -> None:
    rules = rules_of({})
    described = json.loads(json.dumps(block(rules)))
    way = TextPerception(replace(manifest, perception=described))
    assert way.most_looks == rules.rounds


def test_a_bundle_is_held_against_them(manifest: Manifest) -> None:
    for changes in ({"rounds": 0}, {"call.name": "zoom"}):
        described = {"name": "text", "rules": changed(changes)}
        with pytest.raises(BundleError, match=r"manifest\.json: perception: rules"):
            TextPerception(replace(manifest, perception=described))


@pytest.mark.parametrize("path", list(paths(SHIPPED)))
def test_every_key_is_needed(path: str, tmp_path: Path) -> None:
    data = changed({})
    place = data
    *folders, key = path.split(".")
    for folder in folders:
        place = place[folder]
    del place[key]
    file = tmp_path / "way.json"
    file.write_text(json.dumps(data), "utf-8")
    assert f"has other keys than expected: missing {key}" in refusal(file)


@pytest.mark.parametrize("path", list(paths(SHIPPED)))
def test_every_value_has_a_type(path: str, tmp_path: Path) -> None:
    text = refusal(written({path: -777.25}, tmp_path))
    assert path.rpartition(".")[2] in text
    assert "expected" in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"call.pattern": "(a+)+$"}, "call has other keys than expected: unknown pattern"),
        ({"colour": 1}, "has other keys than expected: unknown colour"),
        ({"call.form": "xml"}, "call: form is 'xml', expected one of: function, arguments, box"),
        ({"call.which": "second"}, "which is 'second', expected one of: first, last, all"),
        ({"look.box.coordinates": "percent"}, "coordinates is 'percent', expected one of: pixels_"),
        ({"look.picture.by": "guess"}, "by is 'guess', expected one of: first, last, index, name"),
        ({"look.resize.resampling": "box"}, "resampling is 'box', expected one of: nearest"),
        ({"look.box.padding": {"of": "all", "amount": 1}}, "of is 'all', expected one of: box"),
        ({"look.box.padding": {"of": "box", "amount": -1}}, "amount is -1, expected a number"),
        ({"hand_back.role": "system"}, "role is 'system', expected one of: user, tool"),
        ({"rounds": True}, "rounds is True, expected"),
        ({"rounds": 0}, "rounds is 0, expected a number from 1 to 64"),
        ({"rounds": 65}, "rounds is 65, expected a number from 1 to 64"),
        ({"turn.stop": "</a>"}, "stop is '</a>', expected"),
        ({"turn.stop": [""]}, "stop is '', expected a text of 1 to 64 characters"),
        ({"turn.stop": ["\ud800"]}, "expected a text of 1 to 64 characters"),
        ({"turn.answer": ["<a>"]}, "answer is"),
        ({"opening.user": "\ud800{pictures}{question}"}, "user is"),
        ({"look.resize.pixels": [100, 50]}, "look.resize: pixels 100 to 50 are none"),
        ({"look.resize.pixels": [0, 50]}, "pixels is 0, expected a number from 1"),
        ({"look.box.largest_aspect": 1000}, "largest_aspect is 1000, expected a number from 1"),
        ({"sampling.temperature": -1}, "temperature is -1, expected a number from 0"),
    ],
)
def test_an_unknown_rule_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert problem in refusal(written(changes, tmp_path))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"opening.user": "{question}"}, "opening.user has {pictures} 0 times, expected once"),
        ({"opening.user": "{pictures}"}, "opening.user has {question} 0 times, expected once"),
        (
            {"opening.user": "{pictures}{question}{pictures}"},
            "opening.user has {pictures} 2 times, expected once",
        ),
        (
            {"opening.user": "{pictures}{question} {answer}"},
            "opening.user has the unknown fields answer, expected of: {pictures}, {question}",
        ),
        (
            {"opening.user": "<image>{pictures}{question}"},
            "opening.user spells what stands for a picture, expected a field in braces",
        ),
        ({"opening.plain": "<|image_pad|>"}, "opening.plain spells what stands for a picture"),
        ({"opening.system": "{tools} {question}"}, "unknown fields question"),
        ({"hand_back.text": "Here:"}, "hand_back.text has {picture} 0 times, expected once"),
        ({"hand_back.error": "{problem}"}, "hand_back.error has the unknown fields problem"),
        ({"hand_back.error": ""}, "hand_back.error is empty"),
        ({"hand_back.last": "{left}"}, "hand_back.last has the unknown fields left, expected of"),
        ({"opening.system": "Look."}, "tools: opening.system has no field {tools} for them"),
        ({"opening.system": None}, "tools: opening.system has no field {tools} for them"),
        ({"tools": []}, "opening.system has {tools}, and tools is empty"),
        ({"tools": ["{'name': 'zoom'}"]}, "tools[0] is not JSON: "),
        ({"tools": ["[" * 100_000]}, "tools[0] is not JSON: it is nested too deeply"),
        ({"tools": ["[]"]}, "tools[0] is [], expected a JSON object"),
        ({"tools": [3]}, "tools[0] is 3, expected a JSON object"),
        ({"tools": [TOOL, {}]}, "tools[1] has no function with a name"),
        ({"tools": [{"name": 3}]}, "tools[0] has no function with a name"),
        ({"tools": [{"name": "zoom"}]}, "tools[0] has no parameters with properties"),
        ({"tools": [{"name": "zoom", "parameters": {}}]}, "call.name is image_zoom_in_tool, tools"),
        ({"call.name": "zoom"}, "call.name is zoom, tools have: image_zoom_in_tool"),
        (
            {"look.box.argument": "bbox"},
            "image_zoom_in_tool has no argument bbox, which look reads",
        ),
        ({"look.picture.argument": "picture"}, "has no argument picture, which look reads"),
        ({"tools": [{**TOOL, "\ud800": 1}]}, "tools are not valid text"),
        ({"tools": [{**TOOL, "a": "<|image_pad|>"}]}, "tools spell what stands for a picture"),
        ({"call.opening": ""}, "call: opening and closing are both empty for a bare box alone"),
        ({"call.closing": ""}, "call: opening and closing are both empty for a bare box alone"),
        ({**BOX_FORM, "call.opening": ""}, "call: opening and closing are both empty for a bare"),
        ({"call.name": None}, "call: name is of a function, expected null for another form"),
        ({"call.form": "arguments"}, "call: name is of a function, expected null for another form"),
        ({**BOX_FORM}, "look: arguments are named, and a call of form box has none"),
        ({**BOX_FORM, **ORIGINAL}, "call: form is box, and look.box is null"),
        ({"look.box": None}, "look: picture and box are both given for a crop, and both null"),
        ({"look.picture": None}, "look: picture and box are both given for a crop, and both null"),
        ({**ORIGINAL, "look.resize": SHIPPED["look"]["resize"]}, "there is no crop to resize"),
        ({"look.picture.by": "first"}, "by is first, expected an argument for index and name"),
        ({"look.picture.argument": None}, "by is index, expected an argument for index and name"),
        ({"look.picture.original": "original"}, "look.picture: original is given for name alone"),
        ({"look.picture.by": "name"}, "look.picture: original is given for name alone"),
        ({"turn.answer": ["<think>", "</think>"]}, "two tags of call, answer and thoughts are the"),
        ({"call.closing": "<tool_call>"}, "two tags of call, answer and thoughts are the same"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    assert problem in refusal(written(changes, tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON (Expecting value"),
        ("{'rounds': 1}", "is not JSON (Expecting property name"),
        ('{"rounds": NaN}', "is not JSON (NaN is not a number of JSON)"),
        ('{"rounds": 1, "rounds": 2}', "is not JSON (an object has twice: rounds)"),
        ('{"rounds": 1} {}', "is not JSON (Extra data"),
        ("[" * 100_000, "is not JSON ("),
        ("[]", "is list, expected an object"),
        ("null", "is NoneType, expected an object"),
        ("{}", "has other keys than expected: missing call, first_view, hand_back"),
        ("\udc80", "is not JSON ('utf-8' codec"),
        (f'{{"a": "{"b" * (1 << 20)}"}}', "has more than 1 MiB"),
    ],
)
def test_what_is_not_a_description_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "way.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert problem in refusal(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: "):
        read_rules(tmp_path)


def test_a_file_of_another_tool_may_keep_its_mark(tmp_path: Path) -> None:
    """Some editors put a byte order mark in front."""
    path = tmp_path / "way.json"
    path.write_text(json.dumps(changed({})), "utf-8-sig")
    assert read_rules(path) == rules_of({})


@pytest.mark.parametrize(
    "changes",
    [
        {"opening.system": "{system}{tools} Put it in \\boxed{answer}."},
        {"tools": [TOOL["function"]]},
        {"tools": [json.dumps(TOOL), TOOL["function"] | {"name": "other"}]},
        {"call.form": "arguments", "call.name": None},
        {**BOX_FORM, "look.picture.by": "last", "look.picture.argument": None},
        ORIGINAL,
        {"hand_back.bad_call": "whole", "hand_back.error": ""},
        {"look.box.padding": {"of": "pixels", "amount": 28}},
        {"first_view": {"scale": 0.5, "least_side": 28, "resampling": "lanczos"}},
        {"turn.thoughts": None, "turn.answer": ["<answer>", "</answer>"], "turn.stop": ["</a>"]},
        {"sampling": None},
    ],
)
def test_rules_that_agree_are_read(changes: dict[str, Any], tmp_path: Path) -> None:
    if changes.get("call.form") == "box":
        changes = {**changes, "look.box.argument": None}
    path = written(changes, tmp_path)
    assert read_rules(path) == rules_of(changes)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(sorted(paths(SHIPPED))), junk, max_size=3))
def test_any_description_is_read_or_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    outer = [path for path in changes if not any(path.startswith(f"{one}.") for one in changes)]
    path = written({key: changes[key] for key in outer}, tmp_path)
    with contextlib.suppress(CheckpointError):
        read_rules(path)
