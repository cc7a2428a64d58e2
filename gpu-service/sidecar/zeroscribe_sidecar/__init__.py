"""The Python side of Zeroscribe's GPU worker: WhisperX behind a protocol of one JSON object per line."""
