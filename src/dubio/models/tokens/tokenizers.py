"""The tokenizer of an adapter and its base: found whole, or refused.

Where vocabulary files are missing, transformers makes an empty vocabulary and says nothing: every word is unknown then,
every text is the same. So what is found is looked at: it must hold words, and know those of ordinary sentences.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from dubio.errors import DubioError
from dubio.models.bases.base_settings import reason_of
from dubio.models.bases.gguf import gguf_tokenizer
from dubio.safe_reading import FACTS, read_object, read_text

# One of a language or notation is enough: who reads Chinese, proteins or lower case alone need not read English.
SENTENCES = (
    "The film was late and nobody answered the phone.", "the food was good and we saw it again", "I like this a lot",
    "Der Zug hatte heute wieder zwei Stunden Verspätung.", "La réunion a été reportée à la semaine prochaine.",
    "El paquete llegó tarde y nadie contestó el teléfono.", "Сегодня поезд опять опоздал на два часа.",
    "今天的火车又晚点了两个小时。", "今日の電車はまた二時間遅れました。", "오늘 기차가 또 두 시간 늦었습니다.",
    "تأخر القطار اليوم مرة أخرى ساعتين.", "הרכבת איחרה היום שוב בשעתיים.", "आज ट्रेन फिर दो घंटे लेट थी।",
    "วันนี้รถไฟมาสายอีกสองชั่วโมง", "Το τρένο άργησε πάλι σήμερα δύο ώρες.", "def read(path): return open(path).read()",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "M K T A Y I A K Q R Q I S F V K", "ACGTACGTTAGCCGATAGGCTTAACG",
    "CC(=O)OC1=CC=CC=C1C(=O)O", "0 1 2 3 4 5 6 7 8 9 10 42",
)  # fmt: skip
_MARKS = ("bos", "eos", "unk", "cls", "sep", "mask", "pad")
_SWITCHES = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "strip_accents")
_FEW = 20  # a vocabulary is tiny where the model has so many times its tokens
_SAMPLE = 200  # tokens of the vocabulary that are read again
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken", "*.bpe", "tekken.json")  # a file is one of these
_REMEDY = (
    "put its files there (tokenizer.json and tokenizer_config.json; vocab.txt, tokenizer.model, ... of older ones)"
)


def find_tokenizer(base: str, source: tuple[str, Mapping[str, Any]], folder: Path | None = None) -> Any:
    """The tokenizer in an adapter's `folder` if a whole one lies there, else the base's.

    source: where the base lies, and what transformers is to be told besides. Of half a tokenizer beside the adapter
    (its settings without the vocabulary), the pad token, the side that is cut and the length go on counting.
    Raises DubioError where neither is whole, or where the half one is of another tokenizer than the base's.
    """
    half: dict[str, Any] = {}
    if folder is not None and (folder / "tokenizer_config.json").is_file():
        try:
            own, lack = AutoTokenizer.from_pretrained(folder, trust_remote_code=False), None
            lack = lack_of(own)
        except Exception as error:  # transformers raises many kinds for one thing: files missing or damaged
            if (folder / "tokenizer.json").is_file():
                raise DubioError(
                    f"{folder}: the tokenizer does not load ({reason_of(error)}); save it again"
                ) from error
            own, lack = None, reason_of(error)
        if own is not None and lack is None:
            return own
        half = _half_of(folder)
    where, more = source
    try:
        if "gguf_file" in more:
            found = gguf_tokenizer(where, more["gguf_file"])
        else:
            found = AutoTokenizer.from_pretrained(where, **more, trust_remote_code=False)
        lack = lack_of(found)
    except Exception as error:
        if "gguf_file" not in more and Path(where).is_dir() and not _has_vocabulary(Path(where)):
            raise DubioError(f"{base} holds no whole tokenizer: its vocabulary is not there; {_REMEDY}") from error
        raise DubioError(
            f"cannot load the base model {base}: its tokenizer is damaged or not there ({reason_of(error)}); {_REMEDY}"
        ) from error
    if lack is not None:
        raise DubioError(f"{base} holds no whole tokenizer: {lack}; {_REMEDY}")
    if folder is not None:
        _take_over(found, half, folder, base)
    return found


def _has_vocabulary(folder: Path) -> bool:
    return any(path for name in _VOCABULARIES for path in folder.glob(name))


def lack_of(tokenizer: Any) -> str | None:
    """What a tokenizer lacks, or None: its vocabulary must hold something besides special and added tokens."""
    special = {*tokenizer.all_special_tokens, *tokenizer.added_tokens_encoder, "▁"}
    ordinary = sum(1 for token in tokenizer.get_vocab() if token not in special)
    if ordinary <= 1:
        return "its vocabulary is empty"
    mark = _undefined_mark(tokenizer)
    return None if mark is None else f"it puts {mark!r} around each text, and defines no such token"


def _undefined_mark(tokenizer: Any) -> str | None:
    """A special token of the template around texts that the template does not define: tokenizers would panic on it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    processor: Any = None if backend is None else json.loads(backend.to_str()).get("post_processor")
    for part in [] if processor is None else (processor, *processor.get("processors", ())):
        if part.get("type") == "TemplateProcessing":
            for piece in (*part["single"], *part["pair"]):
                mark = piece.get("SpecialToken", {}).get("id")
                if mark is not None and mark not in part["special_tokens"]:
                    return str(mark)
    return None


def check_words(tokenizer: Any, rows: int, where: str) -> None:
    """Raises DubioError where every ordinary sentence is mostly unknown, in all scripts, and the vocabulary is no
    small one of its own: it has hardly a token for the model's `rows` of embeddings, or does not know its own tokens.
    """
    try:
        if min(unknown_share(tokenizer, text) for text in SENTENCES) <= 0.5:
            return
        step = max(1, len(tokenizer) // _SAMPLE)
        own = [tokenizer.decode([token]) for token in range(0, len(tokenizer), step)]
        shares = [unknown_share(tokenizer, text) for text in own if text.strip()]
        known = sum(share <= 0.5 for share in shares) >= len(shares) / 2
    except Exception as error:  # tokenizers raises a bare Exception where its own unknown token is missing
        raise DubioError(f"{where}: the tokenizer does not read a sentence ({reason_of(error)}); {_REMEDY}") from error
    if not known or _FEW * len(tokenizer) < rows:
        raise DubioError(
            f"{where}: the tokenizer knows hardly a word of an ordinary sentence in any script ({len(tokenizer)} "
            f"tokens for the model's {rows}); it is another model's, or parts of it are missing: {_REMEDY}"
        )


def unknown_share(tokenizer: Any, text: str) -> float:
    """Share of unknown tokens in a text, without the marks around it; 1 where it has no tokens at all."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return sum(token == tokenizer.unk_token_id for token in ids) / len(ids) if ids else 1.0


def _half_of(folder: Path) -> dict[str, Any]:
    """Settings of a tokenizer without vocabulary, with the tokens that were added to it."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= read_object(folder / name)
    added: Any = found.get("added_tokens_decoder") or {}
    tokens = {_text(facts): int(number) for number, facts in added.items() if str(number).isdigit()}
    if (folder / "added_tokens.json").is_file():
        tokens |= read_object(folder / "added_tokens.json")
    return {**found, "added": tokens}


def _take_over(tokenizer: Any, half: Mapping[str, Any], folder: Path, base: str) -> None:
    """What an adapter's half tokenizer says, onto the base's; raises DubioError where it was another one."""
    remedy = f"save the whole tokenizer that the adapter was trained with into {folder}"
    alone = folder / "tokenizer.json"
    if alone.is_file() and _facts(read_text(alone, limit=FACTS)) != _facts(tokenizer.backend_tokenizer.to_str()):
        raise DubioError(f"{folder} holds a tokenizer.json without its settings, and not that of {base}; {remedy}")
    for token, number in half.get("added", {}).items():
        if tokenizer.convert_tokens_to_ids(token) != number:
            raise DubioError(
                f"{folder} holds half a tokenizer, whose token {token!r} is not in that of {base}; {remedy}"
            )
    for name in _MARKS:
        told, own = _text(half.get(f"{name}_token")), getattr(tokenizer, f"{name}_token", None)
        if told is None or told == own:
            continue
        if (own is not None and name != "pad") or told not in tokenizer.get_vocab():
            raise DubioError(
                f"{folder} holds half a tokenizer, whose {name} token is {told!r}; that of {base} is {own!r}; {remedy}"
            )
        setattr(tokenizer, f"{name}_token", told)
    for name in _SWITCHES:
        told, own = half.get(name), tokenizer.init_kwargs.get(name, getattr(tokenizer, name, None))
        if told is not None and own is not None and told != own:
            raise DubioError(
                f"{folder} holds half a tokenizer with {name}={told}; that of {base} has {name}={own}; {remedy}"
            )
    if half.get("truncation_side") in ("left", "right"):
        tokenizer.truncation_side = half["truncation_side"]
    if isinstance(half.get("model_max_length"), int):
        tokenizer.model_max_length = min(tokenizer.model_max_length, half["model_max_length"])


def _facts(backend: str) -> dict[str, Any]:
    """A tokenizer as JSON, without what its last call left there."""
    return {**json.loads(backend), "truncation": None, "padding": None}


def _text(token: Any) -> str | None:
    """Of a token as settings write it: text, or a mapping with its content."""
    found: Any = token.get("content") if isinstance(token, Mapping) else token
    return found if isinstance(found, str) else None
