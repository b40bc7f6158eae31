"""One question about every picture of a folder, a line of JSON each.

A damaged picture does not end the batch.

python examples/batch_to_jsonl.py BUNDLE FOLDER QUESTION > answers.jsonl
"""

import json
import sys
from pathlib import Path

from vpt_edge import runtime

bundle, folder, question = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline:
    for picture in sorted(Path(folder).iterdir()):
        try:
            result = pipeline.ask(picture, question, perception="region").to_dict()
        except runtime.VptError as error:
            result = {"error": str(error)}
        print(json.dumps({"image": picture.name, **result}), flush=True)
