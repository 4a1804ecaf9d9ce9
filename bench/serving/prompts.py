"""Prompts by marks: a mark at its beginning makes each one new, so that no engine has it in its cache."""

import random
from pathlib import Path

from luthier.data.rendering.renderer import Renderer
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer

_SUBJECTS = ("bread", "glass", "paper", "soap", "cheese", "rope", "bricks", "ink")
_WHO = ("miller", "baker", "sailor", "tailor", "farmer", "painter", "doctor", "teacher")
_WHAT = ("horses", "barrels", "candles", "windows", "letters", "baskets", "hammers", "flowers")
_WHERE = ("harbour", "market", "village", "castle", "river", "forest", "bridge", "garden")
QUESTIONS = ("Which of them came first?", "What would the next line be about?")


class Prompts:
    """Texts of a user's message; `token_ids` is what the model's chat template makes of one."""

    def __init__(self, hf_folder: Path) -> None:
        self._renderer = Renderer(TorchFreeTokenizer(hf_folder), 1)

    def token_ids(self, text: str) -> list[int]:
        turns = [{"role": "user", "content": text}]
        return self._renderer.token_ids(self._renderer.text_of_turns(turns, (), True))

    def short(self, *mark: int) -> str:
        """About 50 tokens with the template's own."""
        subject = _SUBJECTS[mark[-1] % len(_SUBJECTS)]
        return f"{_written(mark)} Tell me in detail how {subject} is made, and where."

    def long(self, n_tokens: int, question: str, *mark: int) -> str:
        """So many tokens with the template's own, a few more or less; the question is the last sentence."""
        chance = random.Random(_written(mark))
        n_left = n_tokens - len(self.token_ids(f"{_written(mark)} {question}"))
        sentences = [_written(mark)]
        while n_left > 0:
            who, what, where = (chance.choice(words) for words in (_WHO, _WHAT, _WHERE))
            sentences.append(f"In {chance.randint(1200, 1999)} the {who} brought {chance.randint(2, 99)} {what}")
            sentences[-1] += f" to the {where}."
            n_left -= len(self._renderer.token_ids(" " + sentences[-1]))
        return " ".join([*sentences, question])


def _written(mark: tuple[int, ...]) -> str:
    return f"({'.'.join(map(str, mark))})"
