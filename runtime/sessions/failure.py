"""What ONNX Runtime says of a failure, cut to what is wrong."""

from __future__ import annotations

import re

LONGEST = 200  # characters
MOST_READ = 20_000  # characters: a graph can make it say more

NODE = re.compile(r"while running (\w+) node\. Name:'(.{0,60})")
# A place in ONNX Runtime's sources, the function that stands there, and the condition that failed.
PLACE = (
    r"\S+\.(?:cc|h|cu|cuh|cpp|hpp):\d+ "
    r"(?:[^()']*::[^()']*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? |\w+ )"
    r"(?:.{1,200}? was false\. )?"
)
# What stands before the matter: the first wordings that match are taken off, again and again.
PREAMBLES = [
    re.compile(pattern)
    for pattern in (
        r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ",
        r"^Error in execution: ",
        r"^Error when binding (?:input|output): ",
        r"^Load model from .* failed:",
        r"^Non-zero status code .*? Status Message: ",
        r"^Exception during initialization: ",
        r"^(?:This is an i|I)nvalid model\. ",
        r"^In Node, .* , Error ",
        r"^External data path validation failed .*? Error: ",
        rf"^{PLACE}",
    )
]
# Of what is wrong, which may go on with the values.
END = re.compile(r"\.? ; |\. (?!Actual: |Got: |Input shape:)| Stacktrace:| Please fix ")
FOLDERS = re.compile(r"\"?(?:/[^\s\"/]+)+/([^\s\"/]+)\"?")


def summarize(error: Exception) -> str:
    """The first sentence of ``error`` that says what is wrong, in one line, without places in
    sources, copies of nodes and folders.
    """
    text = " ".join(str(error)[:MOST_READ].split())
    node = NODE.search(text)
    text = _strip_preambles(text)
    text = END.split(text, maxsplit=1)[0]
    text = FOLDERS.sub(r"\1", text).rstrip(".")
    if node is not None:
        operator = node[1]
        name = node[2].partition("'")[0]
        text = f"{operator} node {name}: {text}"
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    return text or type(error).__name__


def _strip_preambles(text: str) -> str:
    rest = ""
    while rest != text:
        rest = text
        for pattern in PREAMBLES:
            text = pattern.sub("", text, count=1)
    return text
