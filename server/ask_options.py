"""The options of a question, as a client names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from vpt_edge.runtime.draft import check_draft
from vpt_edge.runtime.errors import PromptError
from vpt_edge.runtime.options import STOP_TEXTS
from vpt_edge.runtime.perception.actions import Mode
from vpt_edge.server.errors import RequestError

if TYPE_CHECKING:
    from vpt_edge.runtime.manifest import Manifest
    from vpt_edge.runtime.options import AskOptions
    from vpt_edge.runtime.perception import Perception
    from vpt_edge.server.conversation import Conversation
    from vpt_edge.server.fields import Fields
    from vpt_edge.server.settings import Settings

SAMPLING = ("temperature", "top_p", "top_k", "seed")
PIXELS = ("min_pixels", "max_pixels", "first_max_pixels", "look_max_pixels")
BUDGET = (*PIXELS, "first_token_share", "draft_tokens")
LOOKING = ("perception", "max_looks", "assistant_prefix", *BUDGET)


def read_options(
    fields: Fields, max_tokens: int | None, conversation: Conversation, settings: Settings
) -> AskOptions:
    """What ``fields`` say of how to answer.

    ``max_tokens``: of each turn; more than the server's own limit counts as that. Raises
    RequestError for what the runtime would refuse, with the client's name of the field.
    """
    most = settings.max_tokens
    if max_tokens is not None:
        most = min(max_tokens, most)
    mode = fields.choice("perception", get_args(Mode)) or settings.perception
    options = {
        "perception": mode,
        "max_looks": fields.count_from("max_looks", 0),
        "assistant_prefix": fields.text("assistant_prefix"),
        "first_token_share": fields.share("first_token_share"),
        "draft_tokens": fields.count_from("draft_tokens", 0),
        "max_new_tokens": most,
        "history": conversation.history,
        "system": conversation.system,
        "stop": read_stop(fields),
        **read_sampling(fields),
        **{name: fields.count_from(name, 1) for name in PIXELS},
    }
    given = {name: value for name, value in options.items() if value is not None}
    return cast("AskOptions", given)


def read_sampling(fields: Fields) -> dict[str, Any]:
    """Temperature, top_p, top_k and seed, in the ranges that the sampler takes.

    At temperature 0, which is the default, the likeliest token is taken: then the others change
    nothing, and are left out.
    """
    temperature = fields.number("temperature")
    if temperature is not None and temperature < 0:
        raise fields.wrong("temperature", temperature, "0 (greedy) or more")
    top_p = fields.share("top_p")
    top_k = fields.count_from("top_k", 1)
    seed = fields.count_from("seed", 0)
    if not temperature:
        return {}
    return {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}


def read_penalty(fields: Fields) -> float | None:
    """What the logits of tokens lose that a turn has generated already."""
    penalty = fields.number("presence_penalty")
    if penalty is not None and not -2 <= penalty <= 2:
        raise fields.wrong("presence_penalty", penalty, "-2 to 2")
    return penalty


def read_stop(fields: Fields) -> tuple[str, ...]:
    """The texts at which an answer ends."""
    texts = fields.texts("stop")
    if len(texts) > STOP_TEXTS:
        raise fields.wrong("stop", fields.get("stop"), f"up to {STOP_TEXTS} texts")
    if "" in texts:
        raise fields.wrong("stop", "", "texts that are not empty")
    return texts


def check_prefix(perception: Perception, options: AskOptions, param: str) -> None:
    """Raise RequestError for what an answer must not begin with."""
    try:
        perception.check_prefix(options.get("assistant_prefix", ""))
    except PromptError as error:
        raise RequestError(400, "invalid_value", error.problem, error.fix, param=param) from None


def check_draft_tokens(manifest: Manifest, options: AskOptions, param: str) -> None:
    """Raise RequestError for drafts that the bundle does not take."""
    try:
        check_draft(manifest, options.get("draft_tokens"))
    except PromptError as error:
        raise RequestError(400, "invalid_value", error.problem, param=param) from None
