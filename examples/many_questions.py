"""Many questions about one picture, which is encoded once: each further one costs only its own tokens.

python examples/many_questions.py BUNDLE PICTURE QUESTION [QUESTION ...]
"""

import sys

from vpt_edge import runtime

bundle, picture, *questions = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline, pipeline.view(picture) as view:
    for question in questions:
        answer = view.ask(question)
        print(f"{question} {answer.text} ({answer.usage.computed_tokens} tokens)")
