"""Backbones that read in both directions."""

from vrm_pyro.backbone.transformer import TransformerBackbone


class EncoderBackbone(TransformerBackbone):
    """A model of transformers that reads in both directions, such as BERT.

    A state is the mean over tokens unless ``pooling`` says otherwise. A prompt is read again with
    each response: its tokens see the response.
    """

    def _reach(self) -> int | None:
        reach = super()._reach()
        if reach is not None and "position_ids" in self._accepted and not self.takes_positions:
            # RoBERTa-like models count positions from the padding id.
            return reach - self.pad_id - 1
        return reach
