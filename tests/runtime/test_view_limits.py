"""What a view may cost: first views and looks apart, by the request, the manifest or the bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import altered, refused
from PIL import Image
from scripted import CLIP, PICTURE, PICTURE_TOKENS, REGION, Tiny, answer_of
from zoom import WHOLE, call, zoom_bundle

from vpt_edge.runtime import Bundle, Pipeline
from vpt_edge.runtime.errors import ImageError, PromptError
from vpt_edge.runtime.manifest import Budget, ImageConfig
from vpt_edge.runtime.options import Options
from vpt_edge.runtime.perception import open_perception
from vpt_edge.runtime.testing import Script, tiny_bundle
from vpt_edge.runtime.view_limits import ViewLimits
from vpt_edge.runtime.vision import Vision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vpt_edge.runtime.image import Size

TOKEN = 28 * 28  # pixels
LEAST, MOST = 3136, 12845056  # of a tiny bundle
LARGE = (640, 480)
SIDES = st.integers(1, 3000)
NO_BUDGET = Budget()
BUDGETS = st.none() | st.integers(TOKEN, MOST)


@pytest.fixture(scope="module", params=["authors", "plain"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One with the authors' first shrink, and one of a family that has none."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("bundle"))
    if request.param == "authors":
        return bundle
    image = replace(bundle.manifest.image, longest_side=None)
    return replace(bundle, manifest=replace(bundle.manifest, image=image))


def vision_of(bundle: Bundle) -> Vision:
    return Vision(bundle.manifest, open_perception(bundle.manifest), {})


def limits_of(bundle: Bundle, budget: Budget = NO_BUDGET, **options: Any) -> ViewLimits:
    manifest = replace(bundle.manifest, budget=budget)
    return ViewLimits(Options(**options), manifest, vision_of(bundle))


def range_of(limits: ImageConfig) -> tuple[int, int]:
    return limits.min_pixels, limits.max_pixels


@given(size=st.tuples(SIDES, SIDES), least=st.integers(LEAST, 9000), most=st.integers(9000, MOST))
def test_without_a_budget_all_views_have_the_limits_of_before(
    bundle: Bundle, size: Size, least: int, most: int
) -> None:
    image = bundle.manifest.image
    usual = limits_of(bundle)
    assert usual.first(size) == usual.look(size) == image
    narrow = limits_of(bundle, min_pixels=least, max_pixels=most)
    expected = replace(image, min_pixels=least, max_pixels=most)
    assert narrow.first(size) == narrow.look(size) == expected


@pytest.mark.parametrize(
    ("budget", "options", "first", "look"),
    [
        ({}, {"first_max_pixels": 50_000}, (LEAST, 50_000), (LEAST, MOST)),
        ({}, {"look_max_pixels": 50_000}, (LEAST, MOST), (LEAST, 50_000)),
        ({}, {"first_max_pixels": 1200}, (1200, 1200), (LEAST, MOST)),
        ({"first_max_pixels": 9000}, {}, (LEAST, 9000), (LEAST, MOST)),
        ({"look_max_pixels": 9000}, {}, (LEAST, MOST), (LEAST, 9000)),
        ({"first_max_pixels": 1100}, {}, (1100, 1100), (LEAST, MOST)),
        ({"first_max_pixels": 9000}, {"first_max_pixels": 20_000}, (LEAST, 20_000), (LEAST, MOST)),
        ({"first_max_pixels": 9000}, {"max_pixels": 50_000}, (LEAST, 9000), (LEAST, 50_000)),
        ({"first_max_pixels": 9000}, {"max_pixels": 5000}, (LEAST, 5000), (LEAST, 5000)),
        ({"first_max_pixels": 9000}, {"min_pixels": 10_000}, (10_000, 10_000), (10_000, MOST)),
        (
            {},
            {"max_pixels": 5000, "first_max_pixels": 9000},
            (LEAST, 9000),
            (LEAST, 5000),
        ),
    ],
)
def test_the_request_stands_above_the_manifest_and_that_above_max_pixels(
    budget: Any, options: Any, first: tuple[int, int], look: tuple[int, int], bundle: Bundle
) -> None:
    limits = limits_of(bundle, Budget(**budget), **options)
    assert range_of(limits.first(LARGE)) == first
    assert range_of(limits.look(LARGE)) == look


@given(size=st.tuples(SIDES, SIDES), first=BUDGETS, look=BUDGETS, own=st.integers(TOKEN, MOST))
def test_no_view_takes_more_than_its_budget_or_the_graph(
    bundle: Bundle, size: Size, first: int | None, look: int | None, own: int
) -> None:
    """But for a row of visual tokens, which is the least of a thin one."""
    vision = vision_of(bundle)
    limits = limits_of(bundle, first_max_pixels=first, look_max_pixels=look)
    _, _, largest = bundle.manifest.graphs["vision_encoder"].bounds["tokens"]
    usual = limits_of(bundle)
    rule = (own // 2, own)
    views: list[tuple[int | None, Callable[[ViewLimits], ImageConfig]]] = [
        (first, lambda each: each.first(size)),
        (look, lambda each: each.look(size)),
        (look, lambda each: each.look(size, rule)),
    ]
    row = max(size) / min(size)
    for budget, choose in views:
        try:
            tokens = vision.outline(size, choose(limits)).tokens
        except ImageError:  # too thin without a budget, too
            with pytest.raises(ImageError):
                vision.outline(size, choose(usual))
            continue
        assert 0 < tokens <= largest
        if budget is not None:
            assert tokens <= max(budget / TOKEN, row + 1)


@pytest.mark.parametrize("name", ["first_max_pixels", "look_max_pixels"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "from 784, the pixels of one visual token, to the bundle's 12845056"),
        ({"min_pixels": 5000}, "from 5000, the request's min_pixels, to the bundle's 12845056"),
    ],
)
def test_pixels_that_cannot_be_shown_are_refused(
    name: str, options: dict[str, Any], expected: str, bundle: Bundle
) -> None:
    for found in (-1, 0, TOKEN - 1, MOST + 1):
        with pytest.raises(PromptError, match=f"found {name} {found}; expected it {expected}"):
            limits_of(bundle, NO_BUDGET, **{name: found}, **options)


@pytest.mark.parametrize("size", [(4000, 60), (60, 4000), (96, 64), (28, 28), (1, 1), (640, 480)])
def test_a_picture_too_thin_for_its_budget_is_a_row_of_visual_tokens(
    size: Size, tmp_path: Path
) -> None:
    """The authors' resize would leave nothing of it; and what is small is not enlarged above it."""
    bundle = tiny_bundle(tmp_path)
    with Pipeline(bundle, opener=Script("Yes.")) as pipeline:
        answer = pipeline.ask(Image.new("RGB", size), "What?", first_max_pixels=TOKEN)
    assert pads(bundle, answer.turns[0].prompt_ids) == min(max(size) // min(size), 18)


def pads(bundle: Bundle, ids: tuple[int, ...]) -> int:
    return ids.count(bundle.manifest.tokens.image_pad)


def test_a_first_view_of_few_pixels_keeps_what_is_looked_at(tiny: Tiny) -> None:
    """Boxes and crops are of the original picture, however it was shown."""
    bundle = tiny()
    usual = answer_of(Script(REGION, "Yes."), bundle)
    small = answer_of(Script(REGION, "Yes."), bundle, first_max_pixels=2 * TOKEN)
    assert pads(bundle, usual.turns[0].prompt_ids) == PICTURE_TOKENS
    assert pads(bundle, small.turns[0].prompt_ids) == 1
    assert (small.looks, small.text) == (usual.looks, "Yes.")
    crops = [answer.looks[0].crop for answer in (usual, small)]
    assert crops[0] is not None
    assert crops[1] is not None
    assert crops[0].tobytes() == crops[1].tobytes()


def test_a_look_of_few_pixels_keeps_the_first_view(tiny: Tiny) -> None:
    bundle = tiny()
    usual = answer_of(Script(REGION, "Yes."), bundle)
    small = answer_of(Script(REGION, "Yes."), bundle, look_max_pixels=2 * TOKEN)
    assert pads(bundle, small.turns[0].prompt_ids) == PICTURE_TOKENS
    assert (usual.looks[0].tokens, small.looks[0].tokens) == (6, 2)
    assert small.looks[0].box == usual.looks[0].box


def test_a_reencode_by_clip_shows_what_was_shown(tiny: Tiny) -> None:
    answer = answer_of(Script(CLIP, "Yes."), tiny(), first_max_pixels=TOKEN, look_max_pixels=9000)
    assert [look.tokens for look in answer.looks] == [1]
    assert answer.usage.vision_runs == 1


def ask_zoom(path: Path, monkeypatch: pytest.MonkeyPatch, said: str, **options: Any) -> Any:
    """What is looked at, of a picture whose first view is of half its sides."""
    bundle = zoom_bundle(path, monkeypatch, halves=True)
    with Pipeline(bundle, opener=Script(said, "Yes.")) as pipeline:
        return pipeline.ask(Image.new("RGB", LARGE), "What?", **options)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 14 * 18),
        ({"first_max_pixels": 50_000}, 14 * 18),
        ({"look_max_pixels": 50_000}, 6 * 9),
        ({"max_pixels": 50_000}, 6 * 9),
    ],
)
def test_a_whole_picture_looked_at_has_the_budget_of_looks(
    options: Any, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (look,) = ask_zoom(tmp_path, monkeypatch, WHOLE, **options).looks
    assert look.tokens == tokens


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 10 * 10),
        ({"max_pixels": 9000}, 10 * 10),  # which a rule of its own stands above
        ({"first_max_pixels": 9000}, 10 * 10),
        ({"look_max_pixels": 40_000}, 7 * 7),
        ({"max_pixels": 40_000, "look_max_pixels": 40_000}, 7 * 7),
        ({"look_max_pixels": 90_000}, 10 * 10),
    ],
)
def test_a_rules_own_limits_of_a_look_reach_as_far_as_the_budget(
    options: Any, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call([0, 0, 300, 300], limits=[80_000, 80_000])
    (look,) = ask_zoom(tmp_path, monkeypatch, said, **options).looks
    assert look.tokens == tokens
    assert look.box == (0, 0, 300, 300)


def test_a_manifests_budget_is_the_default_of_requests(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    path = altered(bundle, lambda data: data.update(budget={"first_max_pixels": TOKEN}))
    with Pipeline(path, opener=Script("Yes.", "Yes.")) as pipeline:
        small = pipeline.ask(PICTURE, "What?")
        usual = pipeline.ask(PICTURE, "Which?", first_max_pixels=MOST)
    shown = [pads(bundle, answer.turns[0].prompt_ids) for answer in (small, usual)]
    assert shown == [1, PICTURE_TOKENS]


@pytest.mark.parametrize("name", ["first_max_pixels", "look_max_pixels"])
@pytest.mark.parametrize("pixels", [TOKEN - 1, MOST + 1])
def test_a_budget_beyond_the_bundle_is_not_opened(name: str, pixels: int, tmp_path: Path) -> None:
    path = altered(tiny_bundle(tmp_path), lambda data: data.update(budget={name: pixels}))
    problem = refused(lambda: Pipeline(path, opener=Script()))
    assert f"budget: {name} is {pixels}, expected 784 to 12845056" in problem


def test_an_encoded_picture_keeps_its_visual_tokens_by_budget(tiny: Tiny) -> None:
    with Pipeline(tiny(), opener=Script(*["Yes."] * 4)) as pipeline:
        picture = pipeline.encode(PICTURE)
        runs = []
        for number, budget in enumerate((TOKEN, TOKEN, None, TOKEN)):
            answer = picture.ask(f"Which {number}?", first_max_pixels=budget)
            runs.append(answer.usage.vision_runs)
    assert runs == [1, 0, 1, 0]
