"""Renders each [transcript, options] of a JSON list with WhisperX's own writers: the reference for core/formats."""

import io
import json
import sys

from whisperx.utils import WriteSRT, WriteTSV, WriteTXT, WriteVTT

WRITERS = {"srt": WriteSRT, "vtt": WriteVTT, "txt": WriteTXT, "tsv": WriteTSV}


def render(transcript: dict, options: dict) -> dict[str, str]:
    """What each writer makes of one case, by its extension."""
    outputs = {}
    for name, writer in WRITERS.items():
        file = io.StringIO(newline="")
        writer("").write_result(transcript, file, options)
        outputs[name] = file.getvalue()
    return outputs


if __name__ == "__main__":
    json.dump([render(*case) for case in json.load(sys.stdin)], sys.stdout)
