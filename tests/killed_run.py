"""A small run that says where it is, to be killed: python -m tests.killed_run FOLDER torch 80."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import backends
from recis_core.callbacks import JsonLog
from recis_core.interrupt import Interrupted
from recis_core.train import Trainer
from tests.toy import MemoryReader, ToyModel, content, toy_batches, toy_trainer

SAVE_EVERY = 5


def say(*words: object) -> None:
    print(*words, flush=True)


class Announced(Trainer):
    """Says when a step or a save begins and ends."""

    def launch_step(self, *given):
        say("step", self.step + 1, "begins")
        launched = super().launch_step(*given)
        say("step", self.step, "ends")
        return launched

    def save(self):
        say("save", self.step, "begins")
        path = super().save()
        say("save", self.step, "ends")
        return path

    def restore(self, path):
        super().restore(path)
        say("resumed", self.step)


def main(folder: Path, backend: str, steps: int, resume: bool) -> str:
    trainer = toy_trainer(
        backends.load(backend),
        MemoryReader(toy_batches(80 * 64, 64), epochs=None),
        model=lambda: ToyModel(dropout=0.1, weight="weight"),
        folder=folder,
        steps=steps,
        save_every=SAVE_EVERY,
        accumulation=2,
        clip=0.5,
        overlap=1,
        callbacks=[JsonLog(folder / "log.jsonl")],
    )
    trainer.__class__ = Announced
    try:
        trainer.train(resume=resume)
    except Interrupted as wish:
        say("interrupted", wish)
        sys.exit(3)
    state = content(trainer)
    digest = sha256(b"".join(str(key).encode() + state[key] for key in sorted(state, key=str)))
    return f"final {trainer.running.losses[-1].hex()} {digest.hexdigest()}"


if __name__ == "__main__":
    say(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), resume="--resume" in sys.argv))
