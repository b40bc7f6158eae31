"""A camera, a stream or a clip, asked every two seconds.

python examples/watch.py BUNDLE SOURCE QUESTION
"""

import sys
from datetime import datetime

from vpt_edge import live, runtime

bundle, address, question = sys.argv[1:]
with runtime.Pipeline(bundle) as pipeline, live.open(address) as source:
    answers = live.watch(pipeline, source, question, every=2.0, perception="region")
    for seen in answers:
        moment = datetime.fromtimestamp(seen.frame.time)
        print(f"{moment:%H:%M:%S}", seen.answer.text, f"after {seen.age_at_end:.1f} s")
for counts in answers.counts:
    print(counts.frames, "frames,", counts.asked, "asked about")
