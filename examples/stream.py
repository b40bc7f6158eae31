"""The answer while it is being said, and each look as it happens.

python examples/stream.py BUNDLE PICTURE QUESTION
"""

import sys

from vpt_edge import runtime

bundle, picture, question = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline:
    for event in pipeline.stream(picture, question, perception="region"):
        if isinstance(event, runtime.Text):
            print(event.piece, end="", flush=True)
        elif isinstance(event, runtime.Looked):
            print("looks again at", event.box)
        elif isinstance(event, runtime.Finished):
            print("\nended with", event.answer.finish_reason)
