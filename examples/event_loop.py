"""Questions from an event loop: it goes on while the model speaks, as a web server must.

The second question waits for its turn; a task that is cancelled ends between two tokens.

python examples/event_loop.py BUNDLE PICTURE QUESTION OTHER
"""

import asyncio
import sys

from vpt_edge import runtime

bundle, path, question, other = sys.argv[1:]


async def main() -> None:
    with runtime.Pipeline(bundle) as pipeline:
        picture = await asyncio.to_thread(pipeline.encode, path)
        waiting = asyncio.create_task(picture.aask(other))
        async for event in picture.astream(question, perception="region"):
            if isinstance(event, runtime.Looked):
                print("looks again at", event.box)
            elif isinstance(event, runtime.Finished):
                print(event.answer.text)
        print(other, (await waiting).text)


asyncio.run(main())
