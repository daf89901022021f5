"""Trained encoders as files: weights and, in the same file's header, construction; beside it a card in README.md.

One file, encoder.safetensors, so that what is downloaded loads. It may come from anybody: it is read as data, checked
before anything of the size it claims is built, and never run.
"""

import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from adadim_core.checkpoint import CheckpointError
from adadim_core.models import Encoder, EncoderConfig
from adadim_core.models.encoder import BUILT_IN
from adadim_core.storage.atomic import write_atomically, write_text

_WEIGHTS = "encoder.safetensors"
_CARD = "README.md"
_HEADER = "adadim_encoder"
"""Name of the construction in the header of the weights."""
_LARGEST_SIDE = 4096
"""Of an image in pixels: building an encoder takes a forward pass."""


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
    content = safetensors.torch.save(weights, metadata={_HEADER: json.dumps(construction)})
    write_atomically(directory / _WEIGHTS, lambda file: file.write(content))
    if card is not None:
        write_text(directory / _CARD, card)


def load_encoder(path: str | Path, *, device: torch.device | str = "cpu") -> Encoder:
    """An exported encoder ready for use: in eval mode, its parameters without gradient.

    It maps images (N, C, H, W), uint8 or floating point in [0, 1], to R (N, D_r). To train it further, call
    `requires_grad_()` on it.

    Args:
        path: the file, under any name, or the folder of the export.
        device: where to put it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, no exported encoder, or not what it says it is.
    """
    file = Path(path) / _WEIGHTS if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise FileNotFoundError(f"no exported encoder at {path}: {file.name} is missing")
    try:
        config = _checked_construction(file)
        encoder = Encoder(config)
        encoder.load_state_dict(safetensors.torch.load_file(file))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the exported encoder {file} cannot be read: {error}") from error
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"weights and construction in {file} do not fit: {error}") from error
    return encoder.to(device).eval().requires_grad_(False)


def _checked_construction(file: Path) -> EncoderConfig:
    """The construction in a file's header, once its weights are known to have the shapes it gives."""
    with safe_open(file, "pt") as opened:
        header = (opened.metadata() or {}).get(_HEADER)
        if header is None:
            raise CheckpointError(f"{file} holds tensors, but not how an encoder is built of them")
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no dict
    fields = json.loads(header)
    if not isinstance(fields, dict) or fields.get("format") != 1:
        raise CheckpointError(f"{file} has an unknown format")
    config = TypeAdapter(EncoderConfig).validate_python(fields)
    if not 0 < config.image_size <= _LARGEST_SIDE or config.width < 1:
        raise CheckpointError(f"{file} claims images of {config.image_size} pixels and a width of {config.width}")
    if config.backbone in BUILT_IN:  # one that is registered here is built by this process's own code
        with torch.device("meta"):  # without memory: what is claimed may be far larger than the file
            claimed = {name: tuple(tensor.shape) for name, tensor in Encoder(config).state_dict().items()}
        if claimed != shapes:
            raise CheckpointError(f"weights and construction in {file} do not fit")
    return config
