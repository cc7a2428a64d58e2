"""What half precision and batches change in word times: prints JSON. alignment.ts runs it.

No trained wav2vec2 comes in a package, and with random weights every frame sounds alike, so that any word could be
anywhere. So small ones, of both kinds that there are, learn the sample recording by heart first.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisperx.alignment
from alignment_cases import OneSentence
from faster_whisper import WhisperModel, decode_audio
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)
from zeroscribe_sidecar.alignment import Letters, align_texts, timed_words
from zeroscribe_sidecar.emissions import EmissionModel
from zeroscribe_sidecar.pcm import SAMPLE_RATE, Samples, to_float
from zeroscribe_sidecar.protocol import TextChunk
from zeroscribe_sidecar.segments import TimedWord

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
whisperx.alignment.nltk_load = lambda _: OneSentence

LABELS = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
CODES = {label: code for code, label in enumerate(LABELS)}
SAMPLES_PER_FRAME = 320
STEPS = 1_000
VARIANTS_LEARNED = 6
VARIANTS_ALIGNED = 20
"""Of each piece: a bit later, softer, noisy. Those that are aligned are not those that are learned."""


@dataclass(frozen=True)
class Piece:
    """A sentence or so, with its words and their times (seconds from its start) as Whisper's attention has them."""

    audio: Samples
    words: list[tuple[str, float, float]]

    @property
    def text(self) -> str:
        """As WhisperX has it: a space before each word."""
        return "".join(f" {word}" for word, _, _ in self.words)


def sentences(recording: str, whisper: str) -> Iterator[Piece]:
    """`whisper`: the folder of its model."""
    audio = decode_audio(recording)
    segments, _ = WhisperModel(whisper, device="cpu", compute_type="int8").transcribe(
        audio, language="en", word_timestamps=True, beam_size=1
    )
    for segment in segments:
        first, last = max(0, segment.words[0].start - 0.2), segment.words[-1].end + 0.2
        own = audio[int(first * SAMPLE_RATE) : int(last * SAMPLE_RATE)]
        words = [(word.word.strip(), word.start - first, word.end - first) for word in segment.words]
        yield Piece((own * 32767).astype(np.int16), words)


def variant(piece: Piece, random: np.random.Generator) -> Piece:
    """The same words after up to a fifth of a second of silence, softer, in noise."""
    shift = int(random.integers(0, 3_200))
    audio = to_float(piece.audio) * random.uniform(0.4, 1.0)
    audio = np.concatenate([np.zeros(shift, np.float32), audio])
    audio += random.normal(size=len(audio)).astype(np.float32) * random.choice([1e-4, 1e-3, 3e-3])
    words = [(word, start + shift / SAMPLE_RATE, end + shift / SAMPLE_RATE) for word, start, end in piece.words]
    return Piece((audio.clip(-1, 1) * 32767).astype(np.int16), words)


def labels_of(piece: Piece, frames: int) -> torch.Tensor:
    """One frame for each letter, evenly through its word, and the blank in between: as peaked as trained models are."""
    labels = torch.zeros(frames, dtype=torch.long)
    for word, start, end in piece.words:
        for i, letter in enumerate("|" + word.upper()):
            seconds = start + (end - start) * i / (len(word) + 1)
            labels[min(frames - 1, int(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME))] = CODES.get(letter, 0)
    return labels


def learned(pieces: Sequence[Piece], norm: str) -> Wav2Vec2ForCTC:
    """The layers that hear the samples stay random, which is enough to tell sounds apart; those above them learn."""
    torch.manual_seed(3)
    random = np.random.default_rng(4)
    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(LABELS),
            hidden_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=192,
            conv_dim=(48,) * 7,
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=4,
            feat_extract_norm=norm,
            do_stable_layer_norm=norm == "layer",
            pad_token_id=0,
        )
    ).eval()
    heard = []
    for piece in [variant(piece, random) for _ in range(VARIANTS_LEARNED) for piece in pieces]:
        with torch.no_grad():
            features = model.wav2vec2.feature_extractor(torch.from_numpy(to_float(piece.audio))[None]).transpose(1, 2)
        heard.append((features, labels_of(piece, features.shape[1])))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    # There are five times as many blanks as letters.
    weights = torch.ones(len(LABELS))
    weights[0] = 0.3
    for step in range(STEPS):
        features, labels = heard[random.integers(len(heard))]
        hidden, _ = model.wav2vec2.feature_projection(features)
        logits = model.lm_head(model.wav2vec2.encoder(hidden)[0])[0]
        loss = torch.nn.functional.cross_entropy(logits, labels, weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            print(f"{norm}: step {step + 1}, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return model


def save(model: Wav2Vec2ForCTC, folder: Path) -> None:
    """As Hugging Face lays a model out."""
    (folder / "vocab.json").write_text(json.dumps(CODES))
    model.save_pretrained(folder)
    Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(return_attention_mask=False), Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    ).save_pretrained(folder)


def words_of(model: EmissionModel, pieces: Sequence[Piece], at_once: int) -> list[TimedWord]:
    """Of all pieces, one after the other."""
    letters = Letters(model.labels, "en")
    tokens = [letters.tokens_of(piece.text) for piece in pieces]
    emissions = []
    for first in range(0, len(pieces), at_once):
        emissions += model.emissions([piece.audio for piece in pieces[first : first + at_once]])
    words: list[TimedWord] = []
    for piece, own, emission, spans in zip(
        pieces, tokens, emissions, align_texts(emissions, tokens, letters.blank), strict=True
    ):
        assert spans is not None
        chunk = TextChunk(start=0, end=len(piece.audio) / SAMPLE_RATE, text=piece.text)
        words += timed_words(chunk, own, spans, len(emission), "en")
    return words


def stock_words(folder: str, pieces: Sequence[Piece]) -> list[tuple[Any, Any, Any]]:
    """Start, end and score of each."""
    model, metadata = whisperx.alignment.load_align_model("en", "cpu", model_name=folder)
    words = []
    for piece in pieces:
        segment = {"start": 0.0, "end": len(piece.audio) / SAMPLE_RATE, "text": piece.text}
        result = whisperx.alignment.align([segment], model, metadata, to_float(piece.audio), "cpu")
        words += [(word.get("start"), word.get("end"), word.get("score")) for word in result["word_segments"]]
    return words


def within(some: Sequence[TimedWord], others: Sequence[TimedWord], seconds: float) -> float:
    """Share of the words of which both beginning and end are as near as that."""
    near = [
        max(abs((one.start or 0) - (other.start or 0)), abs((one.end or 0) - (other.end or 0))) <= seconds + 1e-9
        for one, other in zip(some, others, strict=True)
    ]
    return sum(near) / len(near)


def compared(pieces: Sequence[Piece], norm: str) -> dict[str, Any]:
    """`norm`: feat_extract_norm of the model."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        save(learned(pieces, norm), Path(folder))
        random = np.random.default_rng(5)
        varied = [variant(piece, random) for _ in range(VARIANTS_ALIGNED) for piece in pieces]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        full = EmissionModel("en", folder, device, half=False)
        alone = words_of(full, varied, 1)
        together = words_of(full, varied, 8)
        halves = words_of(EmissionModel("en", folder, device, half=True), varied, 8)
        attention = [time for piece in varied for time in piece.words]
        off = [abs((word.start or 0) - start) for word, (_, start, _) in zip(alone, attention, strict=True)]
        ours = [(word.start, word.end, word.score) for word in alone]
        stock = stock_words(folder, varied)
        return {
            "device": device,
            "seconds": time.perf_counter() - started,
            "words": len(alone),
            "median_seconds_from_attention": float(np.median(off)),
            "median_score": float(np.median([word.score or 0 for word in alone])),
            "half_within_20_ms": within(halves, alone, 0.02),
            "half_identical": within(halves, alone, 0),
            "together_identical": within(together, alone, 0),
            "as_whisperx": sum(one == other for one, other in zip(ours, stock, strict=True)) / len(ours),
        }


def main() -> None:
    """Arguments: the folder of a Whisper model, a recording."""
    whisper, recording = sys.argv[1:]
    pieces = list(sentences(recording, whisper))
    json.dump({norm: compared(pieces, norm) for norm in ("group", "layer")}, sys.stdout)


main()
