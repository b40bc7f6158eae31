"""What llama.cpp's clients ask a server about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from vpt_edge.server.completions import check_model

if TYPE_CHECKING:
    from starlette.requests import Request

    from vpt_edge.server.service import Service


async def show_props(request: Request) -> Response:
    """Those of llama.cpp's that Frigate reads: the context's size, and what the model can do."""
    service: Service = request.app.state.service
    check_model(request.query_params.get("model"), service.settings.model)
    return JSONResponse(describe_server(service))


def describe_server(service: Service) -> dict[str, Any]:
    capacity = service.pipeline.bundle.manifest.cache.capacity
    return {
        "default_generation_settings": {"n_ctx": capacity},
        "total_slots": 1,
        "model_alias": service.settings.model,
        "modalities": {"vision": True, "audio": False},
        "chat_template_caps": {"supports_tools": False},
    }
