"""Trained encoders as files: weights in encoder.safetensors, construction in encoder.json, a card in README.md."""

import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from adadim_core.checkpoint import CheckpointError
from adadim_core.models import Encoder, EncoderConfig
from adadim_core.storage.atomic import write_atomically, write_text

_WEIGHTS = "encoder.safetensors"
_CONSTRUCTION = "encoder.json"
_CARD = "README.md"


def save_encoder(encoder: Encoder, directory: Path, *, card: str | None = None, fingerprint: str | None = None) -> None:
    """Write the files into a folder, each whole or not at all.

    Args:
        encoder: what to write.
        directory: the folder; created if needed.
        card: text of the model card; None: none is written.
        fingerprint: of the images it was trained on, if known.
    """
    # Copies: tied weights share their memory, which safetensors does not write.
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in encoder.state_dict().items()
    }
    construction = {"format": 1, **asdict(encoder.config), "features": encoder.features}
    if fingerprint is not None:
        construction["data_fingerprint"] = fingerprint
    write_atomically(directory / _WEIGHTS, lambda file: file.write(safetensors.torch.save(weights)))
    text = json.dumps(construction, indent=2) + "\n"
    write_text(directory / _CONSTRUCTION, text)
    if card is not None:
        write_text(directory / _CARD, card)


def load_encoder(path: str | Path, *, device: torch.device | str = "cpu") -> Encoder:
    """An exported encoder ready for use: in eval mode, its parameters without gradient.

    It maps images (N, C, H, W), uint8 or floating point in [0, 1], to R (N, D_r). To train it further, call
    `requires_grad_()` on it.

    Args:
        path: the folder of the export, or either of its files.
        device: where to put it.

    Raises:
        FileNotFoundError: a file of the export is missing.
        CheckpointError: the files are damaged or do not belong together.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    for name in (_CONSTRUCTION, _WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(f"no exported encoder at {path}: {name} is missing")
    try:
        fields = json.loads((folder / _CONSTRUCTION).read_text())
        if not isinstance(fields, dict) or fields.get("format") != 1:
            raise CheckpointError(f"{folder / _CONSTRUCTION} has an unknown format")
        config = EncoderConfig(
            backbone=fields["backbone"],
            width=fields["width"],
            stem=fields["stem"],
            image_size=fields["image_size"],
            mean=tuple(fields["mean"]),
            std=tuple(fields["std"]),
        )
        encoder = Encoder(config)
        encoder.load_state_dict(safetensors.torch.load_file(folder / _WEIGHTS))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the exported encoder in {folder} cannot be read: {error}") from error
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"weights and construction in {folder} do not fit: {error}") from error
    return encoder.to(device).eval().requires_grad_(False)
