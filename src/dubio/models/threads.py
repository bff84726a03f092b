"""One model, any number of threads: what enters the head is caught call by call, and what keeps state runs alone.

In: modules. Out: contexts to run them in. Passes of models that keep nothing between their steps run side by side; a
pass that changes the model while it runs (a stack of adapters, some families and adapters) has it to itself.
"""

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from dubio.errors import DubioError

# Families whose forward pass is known to write to nothing but its own tensors.
_STATELESS = frozenset({
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "gemma", "gemma2", "gpt2",
    "gpt_neox", "llama", "mistral", "modernbert", "mpnet", "phi", "qwen2", "qwen3", "roberta", "xlm-roberta",
})  # fmt: skip
_GROWING = frozenset({"dynamic", "longrope"})  # rotary positions that are computed anew for longer rows


class _Turns:
    """Any number at once, or one alone, in the order in which they came; who is inside may come in again at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line = deque[object]()  # of those who wait: without it, who comes again at once would keep all others out
        self._inside = Counter[int]()
        self._owner, self._depth = 0, 0

    @contextmanager
    def together(self) -> Generator[None]:
        me = threading.get_ident()
        with self._changed:
            if self._owner != me and not self._inside[me]:
                self._wait(lambda: not self._owner)
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= Counter([me])
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Generator[None]:
        me = threading.get_ident()
        with self._changed:
            if self._owner != me:
                if self._inside[me]:
                    raise RuntimeError("who is inside together with others cannot be alone there")
                self._wait(lambda: not (self._owner or self._inside))
            self._owner, self._depth = me, self._depth + 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._owner = 0
                self._changed.notify_all()

    def _wait(self, free: Callable[[], bool]) -> None:
        """Until all who came before are inside, and it is free."""
        ticket = object()
        self._line.append(ticket)
        try:
            self._changed.wait_for(lambda: self._line[0] is ticket and free())
        finally:
            self._line.remove(ticket)
            self._changed.notify_all()


class _Process:
    """What this process knows of itself. forked: since anything ran here; threaded: torch's own threads have run."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.turns: WeakKeyDictionary[Any, _Turns] = WeakKeyDictionary()
        self.forked = self.threaded = False

    def turns_of(self, what: object) -> _Turns:
        with self.guard:
            return self.turns.setdefault(what, _Turns())

    def begin_anew(self) -> None:
        """In the child of a fork: threads that held a lock there do not run here, and would never give it back."""
        threaded = self.threaded
        self.__init__()
        self.forked, self.threaded = True, threaded


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.begin_anew)
_caught: ContextVar[tuple[nn.Module, list[Tensor]] | None] = ContextVar("caught", default=None)


def alone(what: object) -> Any:
    """A context in which no other thread uses `what` by `alone` or `together`; it may be entered again inside."""
    return _process.turns_of(what).alone()


def together(what: object) -> Any:
    """A context that any number of threads may be in at once, while none is alone with `what`."""
    return _process.turns_of(what).together()


def settle(device: str) -> None:
    """Before a pass: in the child of a fork, torch's own threads are gone, and waiting for them would never end.

    So one thread is used from then on, as in torch's own data loaders. Raises DubioError on a GPU, which a forked
    process cannot use.
    """
    if _process.forked:
        if device.startswith("cuda"):
            raise DubioError(
                "this process was forked from one that had the model on a GPU, and cannot use it; start processes by "
                "spawn, or load the model in each"
            )
        if _process.threaded:
            torch.set_num_threads(1)
        _process.forked = _process.threaded = False
    _process.threaded = _process.threaded or torch.get_num_threads() > 1


@contextmanager
def catching(module: nn.Module) -> Generator[list[Tensor]]:
    """Yields the list of what enters `module` in this context and thread: the first argument of each of its calls."""
    with _process.guard:
        if not any(hook is _catch for hook in module._forward_pre_hooks.values()):  # pyright: ignore[reportPrivateUsage]
            module.register_forward_pre_hook(_catch)  # stays: hooks that come and go would be seen by other threads
    seen = list[Tensor]()
    token = _caught.set((module, seen))
    try:
        yield seen
    finally:
        _caught.reset(token)


def _catch(module: nn.Module, args: tuple[Any, ...]) -> None:
    current = _caught.get()
    if current is not None and current[0] is module and args:
        current[1].append(args[0])


def keeps_state(model: nn.Module) -> bool:
    """Whether a forward pass may write to the model, so that two at once could disturb each other. In doubt: yes."""
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if getattr(inner.config, "model_type", "") not in _STATELESS:
        return True
    if any(_grows(getattr(module, "rope_type", None)) for module in inner.modules()):
        return True
    if not isinstance(model, PeftModel):
        return False
    config: Any = model.active_peft_config
    if config.is_prompt_learning:
        return True
    if config.peft_type == PeftType.LORA and not getattr(config, "alora_invocation_tokens", None):
        return False
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return not layers or not all(layer.merged for layer in layers)


def _grows(kind: Any) -> bool:
    """Of rotary positions; some families have a kind for each sort of layer."""
    kinds = cast(dict[str, Any], kind).values() if isinstance(kind, dict) else (kind,)
    return any(str(one) in _GROWING for one in kinds)
