"""How a question with lettered choices becomes a prompt: the template, validated, and its form as JSON.

A prompt reads: the instruction, the context, the question, one lettered choice a line, the cue. The model's answer is
the very next token: the gap (a blank, mostly) and a letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dubio.errors import DubioError
from dubio.safe_reading import read_object, short

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class PromptTemplate:
    """letters: one a choice, in order; words are allowed, such as True and False. instruction: opens the prompt.

    context: name of the column whose text stands before the question, or None. choice: a line of the choices. cue: the
    end of the prompt; gap: blanks between it and the letter. Raises DubioError on what makes no such prompt.
    """

    letters: tuple[str, ...] = tuple("ABCDE")
    instruction: str = ""
    context: str | None = None
    choice: str = "{letter}. {choice}"
    cue: str = "Answer:"
    gap: str = " "

    def __post_init__(self) -> None:
        if len(self.letters) < 2 or len(set(self.letters)) < len(self.letters):
            raise DubioError(
                f"answer letters must be two or more, and all different, not {short(', '.join(self.letters))}"
            )
        if any(not letter or letter != letter.strip() for letter in self.letters):
            raise DubioError("answer letters must not be empty, nor begin or end with a blank")
        if "{letter}" not in self.choice or "{choice}" not in self.choice:
            raise DubioError(f"a line of the choices holds {{letter}} and {{choice}}; {short(self.choice)} does not")
        if not self.cue or self.cue != self.cue.strip():
            raise DubioError(
                f"the cue must be text without blanks at its ends, not {short(self.cue)}; blanks go into the gap"
            )
        if self.gap.strip():
            raise DubioError(
                f"the gap between cue and letter holds blanks only, not {short(self.gap)}; text goes into the cue"
            )

    def render(self, question: str, choices: Sequence[str], context: str | None = None) -> str:
        """The prompt of one question; raises DubioError where there are more choices than letters."""
        if len(choices) > len(self.letters):
            raise DubioError(f"{len(choices)} choices for {len(self.letters)} letters ({', '.join(self.letters)})")
        lettered = zip(self.letters, choices, strict=False)
        lines = [self.choice.replace("{letter}", a).replace("{choice}", c.strip()) for a, c in lettered]
        parts = [self.instruction.strip(), (context or "").strip(), question.strip(), *lines, self.cue]
        return "\n".join(part for part in parts if part)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "letters": list(self.letters)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "PromptTemplate":
        """From `facts`, or as many of them as differ from the defaults; raises DubioError on other names or kinds."""
        known = [field.name for field in fields(cls)]
        for name, value in facts.items():
            if name not in known:
                raise DubioError(f"a prompt has no setting {short(name)}; known: {', '.join(known)}")
            listed = name == "letters" and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
            if not (listed or (name != "letters" and isinstance(value, str)) or (name == "context" and value is None)):
                raise DubioError(f"setting {name} of a prompt is of the wrong kind: {short(value)}")
        values: dict[str, Any] = {**facts}
        if "letters" in values:
            values["letters"] = tuple(values["letters"])
        return cls(**values)


def letters_of(text: str) -> tuple[str, ...]:
    """`ABCD` -> its characters; `True,False` -> the words. Raises DubioError on nothing."""
    found = tuple(part.strip() for part in text.split(",")) if "," in text else tuple(text.strip())
    if not found:
        raise DubioError("no answer letters were named; give them as in ABCD, or True,False")
    return found


def read_prompt_file(path: Path) -> dict[str, Any]:
    """The settings in a JSON file; raises DubioError where it is absent or no JSON object."""
    return read_object(path, remedy="give a JSON file of the prompt's settings")
