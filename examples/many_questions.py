"""Many questions about one picture, which is encoded once.

Each further question costs only its own tokens.

python examples/many_questions.py BUNDLE PICTURE QUESTION [QUESTION ...]
"""

import sys

from vpt_edge import runtime

bundle, path, *questions = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline, pipeline.encode(path) as picture:
    for question in questions:
        answer = picture.ask(question)
        print(f"{question} {answer.text} ({answer.usage.computed_tokens} tokens)")
