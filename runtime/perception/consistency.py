"""What the rules of a description must have in common, beside the type and range of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vpt_edge.runtime.errors import BundleError
from vpt_edge.runtime.perception.wording import render_tools, stands_for_pictures
from vpt_edge.runtime.schema import EXPORT_AGAIN, brief, label, labels, parse_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vpt_edge.runtime.perception.rules import CallRule, Look, PictureRule, Rules

# A word in braces is a field; behind a letter it is not one: \boxed{answer} is LaTeX.
UNKNOWN = re.compile(r"(?<![A-Za-z])\{([a-z_]+)\}")
FIELDS = {
    "opening.system": ("system", "tools"),
    "opening.user": ("pictures", "question"),
    "hand_back.text": ("picture", "index", "number", "view", "width", "height"),
    "hand_back.error": ("reason", "name", "pictures"),
    "hand_back.last": (),
}
NEEDED = {"opening.user": ("pictures", "question"), "hand_back.text": ("picture",)}


def check_rules(rules: Rules, where: str) -> None:
    """Raise BundleError, in which ``where`` names the description, unless ``rules`` agree."""
    try:
        _check_texts(rules)
        _check_tools(rules)
        _check_call(rules.call, rules.look)
        _check_look(rules.look)
        _check_tags(rules)
    except ValueError as error:
        raise BundleError(f"{where}: {error}", EXPORT_AGAIN) from None


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _check_texts(rules: Rules) -> None:
    opening = rules.opening
    back = rules.hand_back
    texts = {
        "opening.system": opening.system,
        "opening.plain": opening.plain,
        "opening.user": opening.user,
        "hand_back.text": back.text,
        "hand_back.error": back.error,
        "hand_back.last": back.last,
    }
    for name, text in texts.items():
        if text is not None:
            _check_text(name, text)
    _expect(back.bad_call == "whole" or back.error != "", "hand_back.error is empty")


def _check_text(name: str, text: str) -> None:
    spelled = f"{name} spells what stands for a picture, expected a field in braces"
    _expect(not stands_for_pictures(text), spelled)
    known = FIELDS.get(name)
    if known is None:
        return
    unknown = set(UNKNOWN.findall(text)) - set(known)
    expected = ", ".join(f"{{{field}}}" for field in known) or "none"
    problem = f"{name} has the unknown fields {labels(unknown)}, expected of: {expected}"
    _expect(not unknown, problem)
    for field in NEEDED.get(name, ()):
        count = text.count(f"{{{field}}}")
        _expect(count == 1, f"{name} has {{{field}}} {count} times, expected once")


def _check_tools(rules: Rules) -> None:
    """Each schema is JSON and of a function; the one that is called has the arguments it takes."""
    functions: dict[str, Mapping[str, Any]] = {}
    for number, tool in enumerate(rules.tools):
        name, parameters = _read_tool(tool, f"tools[{number}]")
        functions[name] = parameters
    _expect(not stands_for_pictures(_render(rules.tools)), "tools spell what stands for a picture")
    has_field = rules.opening.system is not None and "{tools}" in rules.opening.system
    _expect(has_field or not rules.tools, "tools: opening.system has no field {tools} for them")
    _expect(bool(rules.tools) or not has_field, "opening.system has {tools}, and tools is empty")
    called = rules.call.name
    if not functions or called is None:
        return
    listed = labels(functions)
    _expect(called in functions, f"call.name is {label(called)}, tools have: {listed}")
    for argument in _arguments(rules.look):
        problem = f"tools: {label(called)} has no argument {label(argument)}, which look reads"
        _expect(argument in functions[called], problem)


def _render(tools: Sequence[Any]) -> str:
    """The schemas as they are prompted. Raises ValueError for what cannot be encoded."""
    try:
        text = render_tools(tools)
        text.encode("utf-8")
    except RecursionError:
        raise ValueError("tools are nested too deeply") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"tools are not valid text: {error.reason}") from None
    return text


def _read_tool(tool: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """The name of a function and its parameters, of a schema with or without the outer object."""
    if isinstance(tool, str):
        try:
            tool = parse_json(tool)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON: {error}") from None
    _expect(isinstance(tool, dict), f"{where} is {brief(tool)}, expected a JSON object")
    function = tool.get("function", tool)
    is_function = isinstance(function, dict) and isinstance(function.get("name"), str)
    _expect(is_function, f"{where} has no function with a name")
    parameters = function.get("parameters")
    properties: Any = None
    if isinstance(parameters, dict):
        properties = parameters.get("properties", {})
    _expect(isinstance(properties, dict), f"{where} has no parameters with properties")
    return function["name"], properties


def _arguments(look: Look) -> list[str]:
    """The arguments of a call that are read."""
    rules = [rule for rule in (look.box, look.picture) if rule is not None]
    return [rule.argument for rule in rules if rule.argument is not None]


def _check_call(call: CallRule, look: Look) -> None:
    is_box = call.form == "box"
    tags = (call.opening, call.closing)
    bare = is_box and tags == ("", "")
    _expect(bare or "" not in tags, "call: opening and closing are both empty for a bare box alone")
    needs_name = call.form == "function"
    has_name = call.name is not None
    _expect(needs_name == has_name, "call: name is of a function, expected null for another form")
    if not is_box:
        return
    _expect(look.box is not None, "call: form is box, and look.box is null")
    _expect(not _arguments(look), "look: arguments are named, and a call of form box has none")


def _check_look(look: Look) -> None:
    has_box = look.box is not None
    has_picture = look.picture is not None
    problem = "look: picture and box are both given for a crop, and both null for the original"
    _expect(has_box == has_picture, problem)
    if look.picture is not None:
        _check_picture(look.picture)
    if look.resize is None:
        return
    _expect(has_box, "look.resize is given, and there is no crop to resize")
    pixels = look.resize.pixels
    if pixels is not None:
        _expect(pixels[0] <= pixels[1], f"look.resize: pixels {pixels[0]} to {pixels[1]} are none")


def _check_picture(rule: PictureRule) -> None:
    needs_argument = rule.by in ("index", "name")
    has_argument = rule.argument is not None
    expected = f"look.picture: by is {rule.by}, expected an argument for index and name alone"
    _expect(needs_argument == has_argument, expected)
    for key in ("original", "crop"):
        has_name = getattr(rule, key) is not None
        _expect(has_name == (rule.by == "name"), f"look.picture: {key} is given for name alone")


def _check_tags(rules: Rules) -> None:
    """Every tag has one meaning."""
    tags = [rules.call.opening, rules.call.closing]
    if rules.turn.answer is not None:
        tags += rules.turn.answer
    if rules.turn.thoughts is not None:
        tags += (rules.turn.thoughts.opening, rules.turn.thoughts.closing)
    _expect_apart([tag for tag in tags if tag])


def _expect_apart(tags: Collection[str]) -> None:
    _expect(len(set(tags)) == len(tags), "two tags of call, answer and thoughts are the same")
