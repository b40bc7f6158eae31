"""One question about one picture, and where the model looked for the answer.

python examples/ask.py BUNDLE PICTURE QUESTION
"""

import sys

from vpt_edge import runtime

bundle, picture, question = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline:
    answer = pipeline.ask(picture, question, perception="region")
for look in answer.looks:
    print("looked at", look.box)
print(answer.text)
