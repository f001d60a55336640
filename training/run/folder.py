"""What a run folder holds, written so that a run may be killed at any moment: checkpoints, the stage that it is in, and
its frozen split.

`checkpoints/last.ckpt` and, from one save before, `previous.ckpt` are what training resumes from; `best.ckpt` has the
weights of the best validation where `early_stop` is on; `final.ckpt` the weights with settled batch normalisation,
which `export` takes, and `step_N.ckpt` those of `kept_steps`. `stage.json`: "training" until all steps are made (or it
was ended early), then "trained" until the statistics are settled, then "done".
"""

from __future__ import annotations

import os
from pathlib import Path

from .. import methods
from ..core import provenance
from ..core.config import Config

TRAINING, TRAINED, DONE = "training", "trained", "done"


def checkpoints(run: Path) -> Path:
    return run / "checkpoints"


def stage(run: Path) -> str | None:
    """The stage of a run; None for one that has none noted."""
    return provenance.read_json(run / "stage.json").get("stage")


def mark(run: Path, name: str, step: int, ended: str = "") -> None:
    provenance.write_json(run / "stage.json", {"stage": name, "step": step, "ended": ended})


def saved(state: dict, path: Path) -> Path:
    """`torch.save`, so that `path` is replaced when all of it is on the disk. Raises `SystemExit` where there is no
    room for it.
    """
    import torch

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        _on_disk(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"{path} could not be written ({str(error).splitlines()[0]}); what was there before is kept."
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return path


def _on_disk(file: Path) -> None:
    with open(file, "rb+") as f:
        os.fsync(f.fileno())


def save_training(trainer, run: Path, last_is_good: bool = True) -> None:
    """Write the trainer's state as last.ckpt; the one before becomes previous.ckpt if it is a good one. All
    processes call this.
    """
    folder = checkpoints(run)
    last, part = folder / "last.ckpt", folder / "last.ckpt.part"
    try:
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            _on_disk(part)
            if last.exists() and last_is_good:
                os.replace(last, folder / "previous.ckpt")
            os.replace(part, last)
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"{last} could not be written ({str(error).splitlines()[0]}); the checkpoint before it is kept. Make room "
            "and resume."
        ) from None
    finally:
        if trainer.is_global_zero:
            part.unlink(missing_ok=True)


def last_good(run: Path) -> tuple[Path, dict] | tuple[None, None]:
    """(file, state) to resume from: last.ckpt, or where it is damaged or gone previous.ckpt; (None, None) where there
    is neither.

    Raises `SystemExit` where both are damaged.
    """
    import torch

    damaged = []
    for name in ("last.ckpt", "previous.ckpt"):
        file = checkpoints(run) / name
        if not file.exists():
            continue
        try:
            state = torch.load(file, map_location="cpu", weights_only=False)
            if damaged:
                print(f"{damaged[0]} is damaged; going on from {file.name}, step {state['global_step']}", flush=True)
            return file, state
        except Exception:  # whatever pickle and zip make of a file that was cut short
            damaged.append(file)
    if damaged:
        raise SystemExit(
            f"{' and '.join(map(str, damaged))}: damaged, and there is no older checkpoint; remove {run} and train "
            "again."
        )
    return None, None


def kept(run: Path, step: int) -> Path:
    """The file with the weights of a step in `kept_steps`."""
    return checkpoints(run) / f"step_{step}.ckpt"


def weights_of(module, step: int) -> dict:
    """What a file of weights alone holds."""
    return {"state_dict": {k: v.detach().cpu() for k, v in module.state_dict().items()}, "global_step": step}


def callback(run: Path, config: Config, last_is_good: bool):
    """The Lightning callback that saves every so many steps, the weights of `kept_steps`, and, with `early_stop`, at
    every validation, the best of them besides.
    """
    from lightning.pytorch.callbacks import Checkpoint

    class Saving(Checkpoint):
        def __init__(self):
            self.good, self.at = last_is_good, -1
            self.best = float("inf")

        def save(self, trainer):
            if trainer.global_step != self.at:
                save_training(trainer, run, self.good)
                self.good, self.at = True, trainer.global_step

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            # before a validation that counts nothing is saved: a run that is killed in it must come to it again
            step, every = trainer.global_step, config.validate_every
            if step in config.kept_steps and trainer.is_global_zero:
                saved(weights_of(module, step), kept(run, step))
            if step % config.checkpoint_every == 0 and not (config.early_stop and step % every == 0):
                self.save(trainer)

        def on_validation_end(self, trainer, module):
            if not config.early_stop or trainer.sanity_checking:
                return
            score = float(trainer.callback_metrics.get("val/score", float("nan")))
            if score < self.best:
                self.best = score
                if trainer.is_global_zero:
                    best = weights_of(module, trainer.global_step) | {"score": score}
                    saved(best, checkpoints(run) / "best.ckpt")
            # with what early stopping has counted
            self.at = -1
            self.save(trainer)

        def state_dict(self):
            return {"best": self.best}

        def load_state_dict(self, state):
            best = checkpoints(run) / "best.ckpt"
            # best.ckpt may be lost; then the next validation makes it again
            self.best = state["best"] if best.exists() else float("inf")

    return Saving()


def frozen(prepared: Path, config: Config, feed) -> dict:
    """split.json of a run that begins: who trains and who validates, with the hashes of all of them.

    Raises `SystemExit` where one image is on both sides, under whatever name.
    """
    hashes = provenance.identities(prepared, [*feed.training, *feed.validation])
    patient = provenance.patients(prepared)
    trained: dict[str, str] = {h: n for n in feed.training for h in hashes[n]}
    for name in feed.validation:
        for h in hashes[name]:
            if h in trained:
                raise SystemExit(
                    f"{trained[h]} trains and {name} validates, and both are the same image; take one of them out of "
                    f"{prepared}."
                )
    dealt = {"cross_fit": config.cross_fit, "folds": config.folds, "fold": config.fold}
    return {
        "training": list(feed.training),
        "validation": list(feed.validation),
        **dealt,
        "patients": {n: patient.get(n, n) for n in hashes},
        "hashes": hashes,
    }


def require_the_same(run: Path, config: Config, split: dict, anew: str) -> None:
    """Raise `SystemExit`, saying what it is, where a run that has begun would go on with other settings or other
    patients.

    `split`: what `frozen` makes of the patients as they are now; `anew`: the command of a new run.
    """
    started = f"{run} was begun with"
    else_ = f"Put it back, or start a new run: {anew}"
    before = provenance.read_json(run / "split.json")
    if "hashes" not in before or stage(run) is None:
        raise SystemExit(
            f"{run} was begun by an earlier version, which did not keep what a run needs to go on safely; start a new "
            f"run: {anew}"
        )
    known, wanted = methods.of_run(run).plain(), config.plain()
    changed = [f"{k}: {known.get(k)}, now {wanted[k]}" for k in config.changed(known)]
    if changed:
        raise SystemExit(f"{started} {'; '.join(changed)}. {else_}")
    was, now = before["hashes"], split["hashes"]
    said = [f"new is {n}" for n in sorted(now.keys() - was.keys())] + [
        f"gone is {n}" for n in sorted(was.keys() - now.keys())
    ]
    said += [f"another image has {n}" for n in sorted(now.keys() & was.keys()) if not set(was[n]) & set(now[n])]
    sides = [{n: side for side in ("training", "validation") for n in s[side]} for s in (before, split)]
    said += [
        f"{n} was in {sides[0][n]} and is now in {sides[1][n]}"
        for n in sorted(sides[0].keys() & sides[1].keys())
        if sides[0][n] != sides[1][n]
    ]
    if said:
        raise SystemExit(f"{run} was begun with other patients: {'; '.join(said)}. {else_}")


def network_state(run: Path, step: int | None = None) -> tuple[dict, int]:
    """(state of the network alone, its step) of what a run has come to, or of one of its `kept_steps`: settled where
    it settles.

    Raises `SystemExit` when there is none, or the run was killed and has not ended in good order since.
    """
    final, last = checkpoints(run) / "final.ckpt", checkpoints(run) / "last.ckpt"
    if stage(run) is None and not last.exists():
        raise SystemExit(f"{last} is missing: train first.")
    if stage(run) is not None and not final.exists():
        raise SystemExit(f"{run} was stopped before its end; give the train command again.")
    import torch

    file = kept(run, step) if step else final if final.exists() else last
    if not file.exists():
        raise SystemExit(f"{file} is missing: train again.")
    stored = torch.load(file, map_location="cpu", weights_only=False)
    return {
        k.removeprefix("network."): v.contiguous() for k, v in stored["state_dict"].items() if k.startswith("network.")
    }, stored["global_step"]


def is_done(run: Path, steps: int) -> bool:
    """Whether a run is finished: settled, whether by all of its steps or by early stopping. Of a run of an earlier
    version: all its steps.
    """
    if stage(run) is not None:
        return stage(run) == DONE and (checkpoints(run) / "final.ckpt").exists()
    return (checkpoints(run) / "last.ckpt").exists() and network_state(run)[1] >= steps
