"""Where sentences end, without NLTK's data, which NLTK would download while running."""

import re
from functools import cache

import punkt

# As whisperx.utils.PUNKT_LANGUAGES, which importing would cost torch's import.
_PUNKT_MODELS = {
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "it": "italian",
    "ml": "malayalam",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "sl": "slovene",
    "sv": "swedish",
    "tr": "turkish",
}

# Marks that end a sentence in scripts that Punkt was not made for, with closing quotes behind them.
_OTHER_ENDS = re.compile("[。！？।؟။]+[\"'”’」』)]*")  # noqa: RUF001


@cache
def _tokenizer(model: str) -> punkt.PunktSentenceTokenizer:
    return punkt.PunktSentenceTokenizer(punkt.load_model(model))


def sentence_starts(text: str, language: str) -> list[int]:
    """Offsets at which a sentence begins, ascending; the first is 0. Languages without a model of their own use the
    English one, as WhisperX does."""
    tokenizer = _tokenizer(_PUNKT_MODELS.get(language, "english"))
    starts = {0, *(start for start, _ in tokenizer.span_tokenize(text))}
    starts |= {match.end() for match in _OTHER_ENDS.finditer(text)}
    return sorted(start for start in starts if start == 0 or text[start:].strip())
