"""Answers for a bundle below /vision of an application of your own: BUNDLE PORT."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from vpt_edge.runtime import Pipeline
from vpt_edge.server import Service, Settings, create_app

bundle, port = sys.argv[1:]
vision = create_app(Service(lambda: Pipeline(bundle), Settings(model="vpt")))


async def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse("questions go to /vision/v1/chat/completions\n")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with vision.router.lifespan_context(vision):  # of what is mounted, Starlette runs none
        yield


app = Starlette(routes=[Route("/", greet), Mount("/vision", vision)], lifespan=lifespan)
uvicorn.run(app, port=int(port), log_level="warning")
