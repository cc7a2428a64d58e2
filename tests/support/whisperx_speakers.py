"""Gives speakers to the segments of each {segments, turns} of a JSON list as WhisperX does."""

import json
import sys
from unittest.mock import MagicMock

# The rule under test needs neither, and they take seven seconds to import.
for module in ("torch", "pyannote", "pyannote.audio", "whisperx.audio"):
    sys.modules[module] = MagicMock()


def assign(case: dict) -> list:
    """The segments of one case, with speakers."""
    import pandas as pd
    from whisperx.diarize import assign_word_speakers

    turns = pd.DataFrame(case["turns"], columns=["start", "end", "speaker"])
    return assign_word_speakers(turns, {"segments": case["segments"]}, fill_nearest=True)["segments"]


if __name__ == "__main__":
    json.dump([assign(case) for case in json.load(sys.stdin)], sys.stdout)
