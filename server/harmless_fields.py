"""What clients send that changes no answer of this server: it is passed over, and the docs list it.

Everything else that is not read is refused by its name.
"""

from __future__ import annotations

# Of /v1/chat/completions, by where it stands.
CHAT: dict[str, frozenset[str]] = {
    # For accounts, caches and reports of other servers.
    "the request": frozenset(
        (
            *("user", "metadata", "service_tier", "safety_identifier"),
            *("prompt_cache_key", "prompt_cache_retention", "cache_prompt", "timings_per_token"),
            "parallel_tool_calls",
        )
    ),
    "`stream_options`": frozenset(("include_obfuscation",)),
    # What clients give back of an answer, or keep for themselves.
    "a message": frozenset(
        (
            *("name", "id", "annotations", "cache_control"),
            *("reasoning", "reasoning_content", "reasoning_details", "thinking"),
        )
    ),
    "a part of a message": frozenset(("cache_control",)),
    # One size for all: the bundle's limits say which.
    "`image_url`": frozenset(("detail",)),
}
# Of ollama's routes.
OLLAMA: dict[str, frozenset[str]] = {
    # The model stays in memory, and a conversation that is too long is refused, not cut.
    "the request": frozenset(("keep_alive", "truncate", "shift")),
    "a message": frozenset(("thinking", "name")),
    # How ollama loads a model: the bundle says that here, the size of the context too.
    "`options`": frozenset(
        (
            *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "num_keep"),
            *("low_vram", "f16_kv", "vocab_only", "logits_all", "embedding_only"),
            *("use_mmap", "use_mlock"),
        )
    ),
    "`/api/show`": frozenset(("verbose",)),
}
