"""Reads {"stm": path, "texts": {name: text}}, writes {name: word error rate against the reference}."""

import json
import re
import sys
from pathlib import Path

import jiwer


def words(text: str) -> str:
    """Lower case without punctuation: what the reference and Whisper disagree on is not a word error."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())


request = json.load(sys.stdin)
lines = Path(request["stm"]).read_text().splitlines()
reference = words(" ".join(line.split(maxsplit=5)[5] for line in lines))
json.dump({name: jiwer.wer(reference, words(text)) for name, text in request["texts"].items()}, sys.stdout)
