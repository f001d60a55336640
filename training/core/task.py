"""What the training of every network shares, whatever it is trained on: seeds, steps, statistics over all processes."""

from __future__ import annotations

import lightning
import torch

from rtuncertainty import networks

from .config import Config
from .distributed import is_distributed, use_global_batch_norm


class Task(lightning.LightningModule):
    """A network under the settings of a training. Subclasses say what the losses are.

    A training step is `on_train_batch_start`, `training_step` and in it the subclass's `losses`.

    Args:
        config: of the method.
    """

    # the network's input among what a patch holds, and how it lies in memory
    INPUT, LAYOUT = "image", torch.channels_last_3d  # on processors with wide vectors a third faster, as on GPUs

    def __init__(self, config: Config):
        super().__init__()
        self.save_hyperparameters(config.plain())
        self.config = config
        self.network = self.build_network().to(memory_format=self.LAYOUT)
        # the picture of a validation, where one is wanted: see `show`
        self.wants_picture = False
        self.picture: torch.Tensor | None = None
        self.drawn = 0

    def build_network(self) -> torch.nn.Module:
        """The network to be trained."""
        return networks.build(self.config.network, **self.config.arguments)

    def run_network(self, batch):
        """The network's output for a batch of patches."""
        return self.network(batch[self.INPUT].contiguous(memory_format=self.LAYOUT))

    @property
    def settle_batches(self) -> int:
        """Batches of patches over which the statistics of batch normalisation are taken at the end; 0: they stay."""
        return self.config.settle_batches

    def show(self, drawn, **images) -> None:
        """Keep a picture [y, x], 0 to 1, of the slice of a validation in which most is drawn, where one is wanted.

        drawn: labels [z, y, x]; images: [z, y, x] each, with the values that are shown black and white; side by side.
        """
        if not self.wants_picture:
            return
        counts = (drawn > 0).flatten(1).sum(1)
        z = int(counts.argmax())
        if self.picture is None or int(counts[z]) > self.drawn:
            self.drawn = int(counts[z])
            shown = [((image[z].float() - low) / (high - low)).clamp(0, 1) for image, low, high in images.values()]
            self.picture = torch.cat(shown, -1).detach().cpu()

    def losses(self, batch) -> dict:
        """The terms of the loss and their sum "loss".

        Args:
            batch: of patches.

        Returns:
            {term: scalar}.
        """
        raise NotImplementedError

    def on_fit_start(self):
        """Lightning's; batch normalisation then works over all processes."""
        use_global_batch_norm(self.network, is_distributed())

    def on_fit_end(self):
        """Lightning's; batch normalisation then works over its own process."""
        use_global_batch_norm(self.network, False)

    def on_train_batch_start(self, batch, index):
        """Lightning's; seeds the step."""
        # dropout's masks belong to the step, so a run that was cut and resumed sees the same ones
        torch.manual_seed((self.config.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank)

    def training_step(self, batch, index):
        """Lightning's; logs the terms.

        Args:
            batch: of patches.
            index: of the batch.

        Returns:
            The loss.

        Raises:
            RuntimeError: the loss is NaN or infinite.
        """
        losses = self.losses(batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, prog_bar=True, sync_dist=True)
        if not torch.isfinite(losses["loss"]):
            raise RuntimeError(
                f"step {self.global_step}: the loss is {losses['loss'].item()}; lower learning_rate and resume."
            )
        return losses["loss"]
